"""Every recipe loads, names its command, and takes two real steps, or reinforces two samples, on drawn scenes."""

import atexit
import functools
import re
import tempfile
from pathlib import Path

import pytest
import torch
import yaml

import teachers
from conftest import QuietWatch
from pocketclip.asked import AskedModelConfig, TimmModelConfig
from pocketclip.asked.config import BundleModelConfig
from pocketclip.data.pictures.augment import AugmentConfig
from pocketclip.distill.config import ReinforceConfig
from pocketclip.distill.reinforce import Reinforcer
from pocketclip.distill.store import write_reinforced
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.sizes import read_size
from pocketclip.models.text.config import ClipTextEncoderConfig
from pocketclip.recipe import Recipe, load_recipe, load_reinforcement
from pocketclip.run.train import train
from pocketclip.shipped_recipes import find_recipe, list_recipes
from pocketclip.stages.engine import compute_here
from pocketclip.stages.watch import SILENT
from pocketclip.train.rates import AdafactorConfig

NAMES = list_recipes()
REINFORCE = [name for name in NAMES if "num_views" in yaml.safe_load(find_recipe(name).read_text())]
TRAIN = [name for name in NAMES if name not in REINFORCE]
QUICK = ["quickstart/openmoji", "quickstart/your_photos", "s_smke/scenes_cpu", "scaling_down/laptop"]
"""One of each kind: heads on cached features, own pictures, a whole model; the others take steps in the slow suite."""
SMALL = [
    "data.train={kind: scenes, count: 40, image_size: 64}",
    "data.val={kind: scenes, count: 8, seed: 1, image_size: 64}",
    "train.num_steps=2",
    "train.batch_size=4",
]
NARROW = [  # of a model with 117 M parameters
    "model.image_encoder.name=test_vit",
    "model.image_encoder.image_size=32",
    "model.image_encoder.num_layers=1",
    "model.text_encoder.architecture={hidden_size: 24, intermediate_size: 48, num_attention_heads: 2}",
    "model.text_encoder.num_layers=1",
    "model.image_head={kind: linear}",
    "model.text_head={kind: linear}",
    "model.embed_dim=48",
]
NARROW_PLAIN = [  # of one with 170 M
    "model.image_encoder.architecture={embed_dim: 24, depth: 1, num_heads: 2}",
    "model.text_encoder.width=24",
    "model.text_encoder.num_layers=1",
    "model.text_encoder.num_heads=2",
    "model.embed_dim=24",
]


@functools.cache
def clip_teacher() -> str:
    """One that knows captions, in a folder that stays as long as the tests run."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return f"{{kind: huggingface, name: {teachers.write_huggingface_teacher(Path(folder.name) / 'clip')}}}"


@functools.cache
def reinforced_scenes() -> str:
    """The scenes of `SMALL` with what a CLIP says of a view of each, in a folder that stays as long."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    settings = {"source": {"kind": "scenes", "count": 40, "image_size": 64}, "num_views": 1, "augment": {}}
    settings |= {"teachers": [yaml.safe_load(clip_teacher())]}
    reinforcer = Reinforcer(ReinforceConfig.parse(settings, place="the test"), torch.device("cpu"))
    write_reinforced(reinforcer, Path(folder.name) / "out", compute_here, SILENT, resume=False)
    return f"{folder.name}/out"


def small_teacher(teacher: AskedModelConfig) -> str:
    """One of the same kind and feature that needs no hub."""
    if isinstance(teacher, BundleModelConfig):
        return clip_teacher()
    assert isinstance(teacher, TimmModelConfig)
    name = "test_vit" if teacher.feature == "cls" else "test_resnet"
    return f"{{kind: timm, name: {name}, pretrained: none, feature: {teacher.feature}, image_size: 32}}"


def small(name: str) -> Recipe:
    """The recipe on a few scenes, without a hub."""
    recipe = load_recipe(name)
    changes = list(SMALL)
    if recipe.objective.kind == "pairs":
        changes = [change.replace("kind: scenes", "kind: scene_pairs") for change in changes]
    if recipe.objective.needs.identities:
        changes[:2] = [
            "data.train={kind: pedestrians, count: 10}",
            "data.val={kind: pedestrians, count: 2, split: val}",
        ]
    if recipe.data.test is not None:
        kind = "scene_pairs" if recipe.objective.kind == "pairs" else "scenes"
        changes.append(f"data.test={{kind: {kind}, count: 8, seed: 2, image_size: 64}}")
        if recipe.objective.needs.identities:
            changes[-1] = "data.test={kind: pedestrians, count: 2, split: test}"
    if recipe.heads_first is not None:
        changes += ["heads_first.num_steps=2", "heads_first.batch_size=4"]
    for part in ("image_encoder", "text_encoder"):
        if getattr(recipe.model, part).pretrained == "hub":
            changes.append(f"model.{part}.pretrained=none")
    if recipe.model.pretrained != "none":
        changes.append("model.pretrained=none")
    for stage in recipe.early_stages:
        changes += [f"early_stages.{stage.name}.{setting}" for setting in ("num_steps=2", "batch_size=4")]
    if recipe.model.bundle is not None:
        changes.append("model.bundle=null")
    if recipe.model.shared_encoder is not None and recipe.model.embed_dim == 768:
        changes += NARROW
    elif recipe.model.text_encoder.name == "transformer of 12 x 768":
        changes += NARROW_PLAIN
    changes += [f"teachers=[{small_teacher(teacher)}]" for teacher in recipe.teachers]
    if recipe.data.train.kind == "reinforced" and recipe.objective.kind == "distillation":
        changes[0] = f"data.train=reinforced:{reinforced_scenes()}"
    elif recipe.data.train.kind == "reinforced":  # a live teacher in the place of the stored one
        changes.append("teachers=[{kind: timm, name: test_resnet, pretrained: none, feature: average, image_size: 32}]")
    for part in ("image_encoder", "text_encoder"):
        if getattr(getattr(recipe.model, part), "inherit", None) is not None:
            changes.append(f"model.{part}.inherit=null")
    if recipe.train.cache is None:
        changes.append("train.num_workers=0")
    return load_recipe(name, changes)


def test_there_are_recipes() -> None:
    assert {"quickstart/openmoji", "quickstart/your_photos", "flickr/flickr8k_heads_cpu"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_what_it_does_and_its_command(name: str) -> None:
    text = find_recipe(name).read_text()
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert len(header[0]) > 20
    commands = re.findall(r"^#   pocketclip (\S+) ?(\S*)", text, flags=re.MULTILINE)
    assert commands, "no command in the header"
    own = "reinforce" if name in REINFORCE else "train"
    for command, argument in commands:
        assert command == "quickstart" or find_recipe(argument).is_file()
    assert any(
        command == "quickstart" or (command, find_recipe(argument)) == (own, find_recipe(name))
        for command, argument in commands
    )


@pytest.mark.parametrize("name", REINFORCE)
def test_two_samples_are_reinforced(name: str, tmp_path: Path) -> None:
    """The recipe's own settings with a tiny teacher, over a few scenes."""
    path = tmp_path / "reinforce.yaml"
    values = yaml.safe_load(find_recipe(name).read_text())
    assert load_reinforcement(name).num_views == values["num_views"]
    clip = teachers.write_huggingface_teacher(tmp_path / "clip")
    values |= {"source": {"kind": "scenes", "count": 2, "image_size": 48}, "out": None, "captioner": None}
    values |= {"teachers": [{"kind": "huggingface", "name": str(clip)}]}
    path.write_text(yaml.safe_dump(values))
    reinforcer = Reinforcer(load_reinforcement(str(path)), torch.device("cpu"))
    manifest = write_reinforced(reinforcer, tmp_path / "out", compute_here, SILENT, resume=False)
    assert (manifest.num_samples, manifest.num_views) == (2, values["num_views"])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name not in QUICK else name for name in TRAIN]
)
def test_two_steps(name: str, tmp_path: Path) -> None:
    outcome = train(small(name), tmp_path / "run", name="test", watch=QuietWatch())
    assert outcome.record.num_steps == 2 * len(load_recipe(name).stages)
    metric = "accuracy" if load_recipe(name).objective.kind == "pairs" else "text_to_image_recall@1"
    assert 0 <= outcome.splits["val"].result.metrics[metric].value <= 1  # type: ignore[union-attr]
    assert (tmp_path / "run" / "bundle" / "model.safetensors").is_file()


def test_the_studys_recipes_hold_its_table() -> None:
    towers = {}
    for name in ("resnet50", "mobilenet_v2", "efficientnet_b0", "inception_v3"):
        recipe = load_recipe(f"flickr/{name}_distilbert_flickr30k")
        towers[name] = recipe.model.image_encoder.name
        train, model = recipe.train, recipe.model
        rates = train.learning_rate
        assert (train.batch_size, train.num_epochs, train.epoch) == (16, 2, "captions")
        assert (rates.heads, rates.image_encoder, rates.text_encoder) == (1e-3, 1e-4, 1e-5)
        assert train.optimizer.weight_decay == 1e-3
        assert (train.schedule.kind, train.schedule.patience, train.schedule.factor) == ("plateau", 1, 0.8)  # type: ignore[union-attr]
        assert (model.text_encoder.context_length, model.image_encoder.image_size) == (200, 224)
        assert (model.temperature, model.learn_temperature, model.embed_dim) == (1.0, False, 256)
        assert model.image_head.kind == "residual_mlp"
        assert (model.image_head.dropout, model.image_head.input_norm, model.image_head.input_dropout) == (
            0.1,
            False,
            0,
        )
        assert recipe.objective.loss.kind == "soft_target"
        assert model.text_encoder.pooling == "cls"
    assert list(towers.values()) == ["resnet50", "mobilenetv2_100", "efficientnet_b0", "inception_v3"]


def test_the_scaling_studys_base_is_as_published() -> None:
    recipe = load_recipe("scaling_down/paper")
    train, model, text = recipe.train, recipe.model, recipe.model.text_encoder
    image = model.image_encoder
    assert isinstance(image, TimmImageEncoderConfig)
    assert isinstance(text, ClipTextEncoderConfig)
    assert (image.name, image.image_size, image.normalization) == ("vit_base_patch32_224", 224, "half")
    assert (text.width, text.num_layers, text.num_heads) == (768, 12, 12)
    assert (text.vocabulary_size, text.tokenizer_kind, text.context_length) == (32_000, "unigram", 16)
    optimizer = train.optimizer
    assert isinstance(optimizer, AdafactorConfig)
    assert (optimizer.betas, optimizer.weight_decay) == ((0.9, 0.999), 1e-4)
    assert (train.batch_size, train.schedule.kind, train.learning_rate.image_encoder) == (2**14, "cosine", 1e-3)
    assert train.batch_size * train.total_steps(10**9) == pytest.approx(3.4e9, rel=1e-4)
    assert train.augment == AugmentConfig()
    assert recipe.objective.loss.kind == "clip"  # type: ignore[union-attr]


@pytest.mark.parametrize(("step", "heads"), [("mu", 2), ("ti", 3), ("s", 6), ("m", 8), ("l", 16)])
def test_another_image_tower_of_the_study_keeps_the_text_tower(step: str, heads: int) -> None:
    model = load_recipe("scaling_down/paper", [f"model.size=scaling_{step}_16"]).model
    assert model.text_encoder == load_recipe("scaling_down/paper").model.text_encoder
    tower = read_size(f"scaling_{step}_16")
    assert tower["text_encoder"]["num_heads"] == heads
    assert model.image_encoder.name == tower["image_encoder"]["name"]
