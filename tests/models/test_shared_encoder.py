"""The shared encoder: its block, what passes through it, and everything that takes a dual encoder."""

import copy
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from conftest import tiny_model_settings, tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost.flops import tower_macs
from pocketclip.cost.parameters import parameters_by_part
from pocketclip.errors import UserError
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.joints import SharedMlpConfig, SharedTransformerConfig
from pocketclip.models.running.reparam import reparameterize
from pocketclip.models.running.runner import Runner, unit
from pocketclip.models.shared_encoder import SharedMlp, SharedTransformer
from pocketclip.models.tower import NoTower
from pocketclip.recipe import Recipe
from pocketclip.tokenizer import train_tokenizer
from pocketclip.train.gradient_cache import chunk_bounds, chunked_backward
from pocketclip.types import Features, ImageTextBatch

VIT = {"kind": "timm", "name": "test_vit", "pretrained": "none", "image_size": 32, "num_layers": 2}
CAPTIONS = ["a red circle", "a blue star", "small", "a large red square and a small blue star", "two stars"]


def transformer(**changes: Any) -> SharedTransformer:
    torch.manual_seed(0)
    config = SharedTransformerConfig.parse({"num_heads": 4, **changes}, place="shared_encoder")
    return config.build(32, has_class_token=True).eval()


def settings(**changes: Any) -> dict[str, Any]:
    plain = {name: value for name, value in tiny_model_settings().items() if name not in ("image_head", "text_head")}
    shared = {"kind": "transformer", "num_heads": 4}
    return {**plain, "image_encoder": VIT, "image_head": {"kind": "linear"}, "shared_encoder": shared} | {
        "embed_dim": 32,
        **changes,
    }


def build(**changes: Any) -> DualEncoder:
    torch.manual_seed(0)
    model = build_model(DualEncoderConfig.parse(settings(**changes), place="model"), vocabulary_size=90)
    assert model.shared_encoder is not None
    return model.eval()


def make_batch(count: int = 5, lengths: tuple[int, ...] = (7, 3, 5, 2, 6)) -> ImageTextBatch:
    random = torch.Generator().manual_seed(0)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return ImageTextBatch(
        images=torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=random),
        tokens=torch.randint(5, 90, mask.shape, generator=random) * mask,
        token_mask=mask,
        image_ids=torch.arange(count),
        caption_ids=torch.arange(len(lengths)),
    )


def objective(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
    """Looks at the output and at every inner layer."""
    del batch
    pairs = [(features.image, features.text), *((layer.image, layer.text) for layer in features.layers)]
    losses = {}
    for number, (image, text) in enumerate(pairs):
        logits = nn.functional.normalize(image, dim=1) @ nn.functional.normalize(text, dim=1).T
        losses[f"layer {number}"] = nn.functional.cross_entropy(5 * logits, torch.arange(len(logits)))
    return losses


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("readout", ["cls", "mean"])
@pytest.mark.parametrize("hidden_features", ["activated", "linear"])
def test_blocks_are_timms_pre_norm_blocks(num_layers: int, readout: str, hidden_features: str) -> None:
    changes = {"image_readout": readout, "hidden_features": hidden_features, "token_types": False}
    shared = transformer(num_layers=num_layers, **changes)
    tokens = torch.randn(2, 6, 32)
    expected = tokens
    with torch.no_grad():
        for own in shared.blocks:
            for value in own.parameters():
                value.normal_(std=0.3)
            other = Block(32, 4, qkv_bias=True, init_values=0.2, norm_layer=partial(nn.LayerNorm, eps=1e-6))
            other.eval()
            for name, source in {
                "norm1": own.attention_norm,
                "norm2": own.feed_forward_norm,
                "attn.proj": own.attention_output,
                "mlp.fc1": own.expand,
                "mlp.fc2": own.contract,
            }.items():
                other.get_submodule(name).load_state_dict(source.state_dict())
            other.attn.qkv.weight.copy_(torch.cat([own.query.weight, own.key_value.weight]))
            other.attn.qkv.bias.copy_(torch.cat([own.query.bias, own.key_value.bias]))
            other.ls1.gamma.copy_(own.attention_scale)
            other.ls2.gamma.copy_(own.feed_forward_scale)
            inner: list[Tensor] = []
            watched = other.mlp.act if hidden_features == "activated" else other.mlp.fc1
            watched.register_forward_hook(lambda module, inputs, output, inner=inner: inner.append(output))
            expected = other(expected)
        output, (hidden,) = shared(tokens, None, "image")
    read = (lambda states: states[:, 0]) if readout == "cls" else (lambda states: states.mean(1))
    torch.testing.assert_close(output, read(expected), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(hidden, read(inner[0]), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("readout", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_padding_has_no_influence(kind: str, readout: str) -> None:
    shared: nn.Module = transformer(num_layers=2, text_readout=readout)
    if kind == "mlp":
        shared = SharedMlpConfig(hidden_widths=(24,), text_readout=readout).build(32, has_class_token=True)
    tokens, mask = torch.randn(2, 6, 32), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    output, (hidden,) = shared(tokens, mask, "text")
    tokens[1, 4:] = 1e3
    padded, (padded_hidden,) = shared(tokens, mask, "text")
    alone, (alone_hidden,) = shared(tokens[1:, :4], None, "text")
    torch.testing.assert_close(output, padded)
    torch.testing.assert_close(hidden, padded_hidden)
    torch.testing.assert_close(output[1:], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hidden[1:], alone_hidden, rtol=1e-4, atol=1e-5)


def test_token_types_tell_the_modalities_apart_by_their_scaled_vectors() -> None:
    shared, plain = transformer(token_type_scale=0.5), transformer(token_types=False)
    plain.load_state_dict({name: value for name, value in shared.state_dict().items() if "type" not in name})
    tokens = torch.randn(2, 5, 32)
    assert shared.token_types is not None
    for row, modality in enumerate(("text", "image")):
        expected, _ = plain(tokens + 0.5 * shared.token_types[row], None, modality)
        torch.testing.assert_close(shared(tokens, None, modality)[0], expected)
    assert not torch.equal(shared(tokens, None, "text")[0], shared(tokens, None, "image")[0])
    assert torch.equal(plain(tokens, None, "text")[0], plain(tokens, None, "image")[0])
    start = transformer()
    assert torch.equal(start.token_type_scale, torch.full((32,), 1e-5))
    assert torch.equal(start.blocks[0].attention_scale, torch.full((32,), 0.2))


def test_a_perceptron_gives_every_hidden_layer() -> None:
    torch.manual_seed(0)
    shared = SharedMlpConfig(hidden_widths=(24, 8), hidden_features="linear").build(32, has_class_token=True)
    assert isinstance(shared, SharedMlp)
    tokens = torch.randn(2, 5, 32)
    output, layers = shared(tokens, None, "image")
    states = tokens[:, 0]
    for linear, norm, layer in zip(shared.hidden, shared.norms, layers, strict=True):
        states = linear(states)
        assert torch.equal(layer, states)
        states = norm(nn.functional.gelu(states))
    assert torch.equal(output, shared.output(states))
    assert shared.widths == (32, 24, 8) == (output.shape[1], *(layer.shape[1] for layer in layers))


def test_dropout_and_drop_path_are_of_training_only() -> None:
    shared = transformer(dropout=0.3, drop_path_rate=0.5)
    tokens = torch.randn(64, 5, 32)
    assert torch.equal(shared(tokens, None, "image")[0], transformer()(tokens, None, "image")[0])
    torch.manual_seed(1)
    outputs = torch.stack([shared.train()(tokens, None, "image")[0] for _ in range(50)])
    assert not torch.equal(outputs[0], outputs[1])
    shared.checkpoint_activations()
    torch.manual_seed(1)
    torch.testing.assert_close(shared(tokens.requires_grad_(), None, "image")[0], outputs[0])


def test_features_hold_the_inner_layer_and_every_parameter_learns() -> None:
    model, batch = build().train(), make_batch()
    features = model(batch)
    assert (features.image.shape, features.text.shape) == ((5, 32), (5, 32))
    assert [(layer.image.shape, layer.text.shape) for layer in features.layers] == [((5, 128), (5, 128))]
    torch.stack(list(objective(features, batch).values())).sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == ["logit_scale"]
    assert {name.partition(".")[0] for name, _ in model.part_parameters("heads")} == {
        "image_head",
        "shared_encoder",
        "logit_scale",
    }


def test_modalities_pass_apart() -> None:
    model, batch = build(), make_batch()
    features = model(batch)
    tokens = model.image_head(model.image_encoder(batch.images))
    torch.testing.assert_close(features.image, model.shared_encoder(tokens, None, "image")[0])
    states = model.text_encoder(batch.tokens, batch.token_mask)
    torch.testing.assert_close(features.text, model.shared_encoder(states, batch.token_mask, "text")[0])
    torch.testing.assert_close(features.image, model.encode_image(batch.images))
    torch.testing.assert_close(features.text, model.encode_text(batch.tokens, batch.token_mask))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_a_convolutional_tower_gives_the_places_of_its_map(name: str) -> None:
    image = {"kind": "timm", "name": name, "pretrained": "none", "image_size": 64}
    model = build(image_encoder=image)
    images = torch.rand(2, 3, 64, 64)
    maps = model.image_encoder.tower.forward_features(images.to(memory_format=torch.channels_last))
    tokens = model.image_encoder(images)
    torch.testing.assert_close(tokens[:, 1], maps[:, :, 0, 1])
    assert model.shared_encoder.readouts == {"image": "mean", "text": "cls"}
    with pytest.raises(UserError, match="image_readout: cls needs an image tower with a class token"):
        build(image_encoder=image, shared_encoder={"kind": "transformer", "num_heads": 4, "image_readout": "cls"})


def test_long_batches_of_texts_pass_by_length() -> None:
    lengths = tuple(2 + number % 9 for number in range(70))
    model, batch = build(), make_batch(70, lengths)
    long = model(batch)
    parts = [model(batch.pairs(start, start + 10)) for start in range(0, 70, 10)]
    torch.testing.assert_close(long.text, torch.cat([part.text for part in parts]), rtol=1e-4, atol=1e-5)
    expected = torch.cat([part.layers[0].text for part in parts])
    torch.testing.assert_close(long.layers[0].text, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 2, 5])
def test_gradient_caching_is_exact_with_inner_layers(chunk_size: int) -> None:
    model, batch = build(shared_encoder={"kind": "transformer", "num_heads": 4, "dropout": 0.2}).train(), make_batch()
    whole, state = copy.deepcopy(model), torch.get_rng_state()
    parts = [whole(batch.pairs(*bounds)) for bounds in chunk_bounds(5, -(-5 // chunk_size))]
    image, text = torch.cat([part.image for part in parts]), torch.cat([part.text for part in parts])
    layers = [torch.cat([getattr(part.layers[0], side) for part in parts]) for side in ("image", "text")]
    layer = type(parts[0].layers[0])(*layers)
    features = Features(image, text, whole.logit_scale.exp(), whole.logit_bias, (layer,))
    expected = objective(features, batch)
    torch.stack(list(expected.values())).sum().backward()
    torch.set_rng_state(state)
    losses = chunked_backward(model, objective, batch, chunk_size=chunk_size, autocast=nullcontext)
    assert set(losses) == {"layer 0", "layer 1"}
    others = dict(model.named_parameters())
    for name, value in whole.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(others[name].grad, value.grad, rtol=1e-3, atol=1e-5, msg=name)


def pretrained() -> PretrainedModel:
    torch.manual_seed(0)
    config = DualEncoderConfig.parse(settings(), place="model")
    tokenizer = train_tokenizer(CAPTIONS, vocabulary_size=90, context_length=16)
    model = build_model(config, vocabulary_size=tokenizer.vocabulary_size)
    return PretrainedModel(model, config, tokenizer, model.image_encoder.preprocess).to("cpu", precision="float32")


@pytest.mark.parametrize("inference", ["eager", "onnx"])
def test_a_runner_runs_the_whole_way(inference: str) -> None:
    if inference == "onnx":
        pytest.importorskip("onnxscript")
    model = pretrained()
    settings = {"device": torch.device("cpu"), "image_size": 32}
    runner = Runner(model.model, **settings, precision="float32", inference=inference)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    tokens, mask = model.tokenizer.encode(CAPTIONS)
    with torch.no_grad():
        image = model.model.encode_image(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        text = model.model.encode_text(torch.from_numpy(tokens), torch.from_numpy(mask))
    np.testing.assert_allclose(runner.encode_images(pixels), unit(image), atol=1e-4)
    np.testing.assert_allclose(runner.encode_tokens(tokens, mask), unit(text), atol=1e-4)
    if inference == "onnx":
        return
    features = Runner(model.model, **settings, precision="float32", inference="eager", heads=False)
    np.testing.assert_allclose(features.encode_images(pixels), image.numpy(), atol=1e-5)
    heads = model.model.heads_only()
    assert torch.equal(heads.image_head(image), image)
    assert torch.equal(heads.text_head(text), text)
    fast = Runner(model.model, **settings, precision="bfloat16", inference="eager")
    assert (fast.encode_tokens(tokens, mask) * unit(text)).sum(1).min() > 0.999
    fused = reparameterize(model.model)
    torch.testing.assert_close(fused.encode_text(torch.from_numpy(tokens), torch.from_numpy(mask)), text)


def test_a_bundle_gives_the_same_vectors_and_can_be_loaded_without_images(tmp_path: Path) -> None:
    model = pretrained()
    folder = model.save_pretrained(tmp_path / "bundle")
    loaded = PretrainedModel.from_pretrained(folder).to("cpu", precision="float32")
    texts = PretrainedModel.from_pretrained(folder, text_only=True).to("cpu", precision="float32")
    expected = model.encode_text(CAPTIONS)
    np.testing.assert_allclose(loaded.encode_text(CAPTIONS), expected, atol=1e-6)
    np.testing.assert_allclose(texts.encode_text(CAPTIONS), expected, atol=1e-6)
    assert isinstance(texts.model.image_encoder, NoTower)
    inherited = {**VIT, "inherit": {"bundle": str(folder)}}
    small = build_model(DualEncoderConfig.parse(settings(image_encoder=inherited), place="model"), vocabulary_size=90)
    own, other = small.image_encoder.state_dict(), model.model.image_encoder.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_what_is_shared_counts_once() -> None:
    model = build()
    counts = parameters_by_part(model)
    parts = sum(counts[f"parameters_{part}"] for part in ("image", "text", "shared", "heads"))
    assert counts["parameters_total"] == parts == sum(value.numel() for value in model.parameters())
    assert counts["parameters_shared"] == sum(value.numel() for value in model.shared_encoder.parameters())
    macs, alone = tower_macs(model, image_size=32, context_length=8), build(shared_encoder={"kind": "mlp"})
    assert macs["macs_text"] != tower_macs(alone, image_size=32, context_length=8)["macs_text"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_head": {"kind": "identity"}}, r"image tower's tokens are 64 wide and .* embed_dim 32; .*kind: linear"),
        ({"text_head": {"kind": "residual_mlp"}}, r"text_head an adapter .* identity or linear \(got residual_mlp\)"),
        ({"shared_encoder": {"kind": "transformer", "num_heads": 5}}, r"num_heads: should divide .* 32 \(got 5\)"),
        ({"image_encoder": {**VIT, "pooling": "cls"}}, r"pooling and joined_stages have no effect"),
        ({"image_encoder": {**VIT, "num_layers": 99}}, r"num_layers: test_vit has \d+ blocks \(got 99\)"),
        ({"image_encoder": {**VIT, "name": "test_resnet"}}, r"num_layers: test_resnet is not a vision transformer"),
        ({"image_encoder": {"kind": "clip_resnet", "layers": [1, 1, 1, 1], "width": 8}}, r"image_encoder"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_training_on_the_cache_is_refused() -> None:
    values = {**tiny_recipe_settings(cache={}), "model": settings()}
    with pytest.raises(UserError, match=r"shared_encoder is trained on all tokens.*leave train.cache out"):
        Recipe.parse(values, place="recipe")
