"""Tiny teachers with random weights, written to disk as real ones are."""

import json
from pathlib import Path
from typing import Any

import torch

from conftest import build_tiny_pretrained
from pocketclip.tokenizer import train_tokenizer

TEXTS = [f"{kind} {one} caption {line}" for kind in ("picture", "scene") for one in range(20) for line in range(5)]


def write_bundle_teacher(folder: Path) -> Path:
    """Takes 32 pixels, 16 wide."""
    return build_tiny_pretrained().save_pretrained(folder, card="tiny")


def write_huggingface_teacher(folder: Path, kind: str = "clip", *, image_size: int = 24, seed: int = 0) -> Path:
    """A CLIP, 12 wide, or a SigLIP, 20 wide."""
    import transformers

    core = train_tokenizer(TEXTS, vocabulary_size=150, context_length=16).core
    core.no_truncation()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", eos_token="[SEP]")
    width = 20 if kind == "siglip" else 16
    text = {"vocab_size": 150, "max_position_embeddings": 10, "eos_token_id": 3, "pad_token_id": 0, "bos_token_id": 2}
    layers = {"hidden_size": width, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**layers, "image_size": image_size, "patch_size": 8}
    names = {"clip": ("CLIPConfig", "CLIPModel"), "siglip": ("SiglipConfig", "SiglipModel")}[kind]
    more = {"projection_dim": 12} if kind == "clip" else {}
    config = getattr(transformers, names[0])(text_config={**text, **layers}, vision_config=vision, **more)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        getattr(transformers, names[1])(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    square = {"height": image_size, "width": image_size}
    processor: dict[str, Any] = {"resample": 3, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
    if kind == "clip":
        processor |= {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": image_size}}
        processor |= {"crop_size": square, "do_center_crop": True}
    else:
        processor |= {"image_processor_type": "SiglipImageProcessor", "size": square}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def write_open_clip_teacher(folder: Path, seed: int = 0) -> tuple[str, Path]:
    """A name that open_clip then knows and a checkpoint, 12 wide and 16 pixels."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    (folder / "tiny-open-clip.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model("tiny-open-clip")
    torch.save(model.state_dict(), folder / "weights.pt")
    return "tiny-open-clip", folder / "weights.pt"


def write_open_clip_folder(folder: Path) -> Path:
    """What open_clip takes as `local-dir:`, squashing pictures."""
    from safetensors.torch import save_file

    name, weights = write_open_clip_teacher(folder)
    settings = json.loads((folder / f"{name}.json").read_text())
    prepared = {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.3, 0.2], "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": prepared}))
    save_file(torch.load(weights), folder / "open_clip_model.safetensors")
    return folder


def write_captioner(folder: Path, kind: str = "blip", *, silent: bool = False) -> Path:
    """A BLIP or a VisionEncoderDecoder that writes nonsense of captions' words, or nothing at all."""
    import transformers

    core = train_tokenizer(TEXTS, vocabulary_size=60, context_length=16).core
    core.no_truncation()
    special = {"pad_token": "[PAD]", "eos_token": "[SEP]", "bos_token": "[CLS]", "unk_token": "[UNK]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, **special)
    vocabulary, side = len(tokenizer), {"height": 16, "width": 16}
    layers = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**layers, "image_size": 16, "patch_size": 8}
    numbers = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = {**layers, **numbers, "vocab_size": vocabulary, "max_position_embeddings": 32}
    model: Any
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if kind == "blip":
            more = {"encoder_hidden_size": 16, "sep_token_id": 3}
            config = transformers.BlipConfig(text_config={**text, **more}, vision_config=vision, projection_dim=8)
            model = transformers.BlipForConditionalGeneration(config)
            head = model.text_decoder.cls.predictions
        else:
            decoder = transformers.BertConfig(**text, is_decoder=True, add_cross_attention=True)
            joint = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
                transformers.ViTConfig(**vision), decoder
            )
            joint.decoder_start_token_id, joint.pad_token_id, joint.eos_token_id = 2, 0, 3
            model = transformers.VisionEncoderDecoderModel(joint)
            head = model.decoder.cls.predictions
    if silent:
        with torch.no_grad():
            head.bias[3] = head.decoder.bias[3] = 1e4  # ends before it has begun
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor" if kind != "blip" else "BlipImageProcessor", "size": side}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder
