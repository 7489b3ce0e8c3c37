"""The accounted cost of a sample against torch's count of a real training step."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conftest import tiny_recipe_settings
from pocketclip.cost.flops import counted_macs
from pocketclip.cost.training import SampleMacs, SampleWork, sample_macs
from pocketclip.data.source import readable_captions
from pocketclip.data.text_tokens import encode_reduced
from pocketclip.models.build import build_model
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.recipe import Recipe
from pocketclip.run.spending import expected_longest, padded_tokens, sample_work
from pocketclip.run.strategies import tower_of_stage
from pocketclip.run.teaching import open_teaching
from pocketclip.tokenizer import train_tokenizer
from pocketclip.train.config import TrainConfig
from pocketclip.train.modes import set_modes
from pocketclip.train.optimizer import build_optimizer
from pocketclip.train.parallel import Alone
from pocketclip.train.step import learned_part, train_step
from pocketclip.types import ImageTextBatch, Objective, TeacherInputs
from teachers import write_bundle_teacher

BATCH, TOKENS = 6, 12
ALL = {"heads": 0.001, "image_encoder": 0.001, "text_encoder": 0.001}


def batch_for(model: DualEncoder, work: SampleWork, teachers: Any) -> ImageTextBatch:
    """Random pixels and ids, or features where they are cached."""
    size, texts = work.image_size, BATCH * work.captions
    images: torch.Tensor = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
    tokens: torch.Tensor = torch.randint(5, 30, (texts, work.num_tokens))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    if "image" in work.cached:
        images = torch.randn(BATCH, model.image_encoder.feature_dim)
    if "text" in work.cached:
        tokens, mask = torch.randn(texts, model.text_encoder.feature_dim), mask[:, :0]
    inputs = ()
    if teachers is not None:
        inputs = tuple(
            TeacherInputs(torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8), tokens, mask)
            for _ in teachers.teachers
        )
    return ImageTextBatch(
        images, tokens, mask, torch.arange(BATCH), torch.arange(texts), teacher_inputs=inputs,
        views=tuple(images for _ in range(work.views - 1)),
    )  # fmt: skip


def accounted_and_counted(settings: dict[str, Any]) -> tuple[SampleMacs, float]:
    recipe = Recipe.parse(settings, place="test")
    torch.manual_seed(0)
    whole = build_model(recipe.model, vocabulary_size=300)
    stage, device = next(iter(recipe.stages.values())), torch.device("cpu")
    teaching = open_teaching(recipe, recipe.data.train.open(), device)
    objective = recipe.objective.build(
        embed_dim=recipe.model.embed_dim, teacher_widths=teaching.widths, feature_dim=whole.width_of_views
    )
    live = () if teaching.live is None else teaching.live.teachers
    work = sample_work(recipe, stage, TOKENS)
    with tower_of_stage(SimpleNamespace(model=whole), stage):  # type: ignore[arg-type]
        return sample_macs(whole, work, objective, live), counted(whole, work, stage, objective, teaching.live)


def counted(whole: DualEncoder, work: SampleWork, stage: TrainConfig, objective: Objective, teacher: Any) -> float:
    """What torch counts of one sample of a real step."""
    model = whole.heads_only() if stage.is_heads_only else whole.without_image_tower() if stage.cache else whole
    if stage.checkpoint_activations:
        model.checkpoint_activations()
    others = list(learned_part(objective).parameters())
    optimizer = build_optimizer(model, stage.optimizer, stage.learning_rate, others)
    set_modes(model, stage)
    batch, parallel = batch_for(whole, work, teacher), Alone(model)
    assert parallel.still_norms is not None  # chosen once a stage, before its first step
    with counted_macs() as counter:
        if teacher is not None:
            batch = teacher(batch, stage.chunk_size)
        train_step(
            parallel, objective, batch, optimizer, max_grad_norm=1.0, chunk_size=stage.chunk_size,
            autocast=nullcontext,
        )  # fmt: skip
    return counter.get_total_flops() / 2 / BATCH


VIT = {"image_encoder": {"kind": "timm", "name": "test_vit", "pretrained": "none", "image_size": 32}}
SIMCLR = {"hidden_width": 64, "width": 16}
STRATEGIES: dict[str, dict[str, Any]] = {
    "clip": {},
    "clip_vit": {"model": VIT},
    "frozen_layers": {"model": {"image_encoder": {"frozen_layers": 2}, "text_encoder": {"frozen_layers": 1}}},
    "two_captions": {"train": {"captions_per_image": 2}, "objective": {"loss": {"kind": "multi_positive"}}},
    "soft_target": {"objective": {"loss": {"kind": "soft_target"}}},
    "lit": {"train": {"learning_rate": {"heads": 0.001, "text_encoder": 0.001}}},
    "lit_without_heads": {"train": {"learning_rate": {"text_encoder": 0.001}}},
    "trained_image_frozen_text": {"train": {"learning_rate": {"heads": 0.001, "image_encoder": 0.001}}},
    "cached_images": {"train": {"cache": {}, "learning_rate": {"heads": 0.001, "text_encoder": 0.001}}},
    "cached_heads": {"train": {"cache": {}, "learning_rate": {"heads": 0.001}}},
    "cached_heads_soft": {
        "train": {"cache": {}, "learning_rate": {"heads": 0.001}}, "objective": {"loss": {"kind": "soft_target"}},
    },
    "chunked": {"train": {"chunk_size": 3}},
    "chunked_lit": {"train": {"chunk_size": 3, "learning_rate": {"heads": 0.001, "text_encoder": 0.001}}},
    "checkpointed": {"model": VIT, "train": {"checkpoint_activations": True}},
    "slip": {"objective": {"simclr": SIMCLR}},
    "slip_vit": {"model": VIT, "objective": {"simclr": {}}},
    "slip_chunked": {"objective": {"simclr": SIMCLR}, "train": {"chunk_size": 3}},
    "flip": {"model": VIT, "train": {"keep_patches": 0.5}},
    "flip_checkpointed": {"model": VIT, "train": {"keep_patches": 0.25, "checkpoint_activations": True}},
    "slip_and_flip": {"model": VIT, "objective": {"simclr": SIMCLR}, "train": {"keep_patches": 0.5}},
    "smaller_pictures_first": {"early": {"image_size": 16}},
    "smaller_pictures_first_vit": {"model": VIT, "early": {"image_size": 16}},
    "smaller_pictures_and_fewer_patches": {"model": VIT, "early": {"image_size": 16, "keep_patches": 0.5}},
}  # fmt: skip


def settings_of(strategy: dict[str, Any]) -> dict[str, Any]:
    """The tiny recipe with a strategy's settings, section by section."""
    settings: dict[str, Any] = tiny_recipe_settings(batch_size=BATCH, **strategy.get("train", {}))
    for part, values in strategy.get("model", {}).items():
        settings["model"][part] = {**settings["model"][part], **values}
    settings["objective"] = {**settings["objective"], **strategy.get("objective", {})}
    if "early" in strategy:
        settings["early_stages"] = [{"name": "early", **settings["train"], **strategy["early"]}]
    return settings


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_accounted_is_what_torch_counts(name: str) -> None:
    found, counted = accounted_and_counted(settings_of(STRATEGIES[name]))
    assert found.total == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("term", ["relational", "feature", "interactive"])
def test_live_teachers_count(tmp_path: Path, term: str) -> None:
    settings = settings_of({})
    settings["teachers"] = [{"kind": "bundle", "path": str(write_bundle_teacher(tmp_path / "teacher")), "scale": 10}]
    settings["objective"] = {"kind": "distillation", "terms": [{"kind": "contrastive"}, {"kind": term}]}
    found, counted = accounted_and_counted(settings)
    assert found.teachers > 0
    assert found.total == pytest.approx(counted, rel=0.05)


def test_the_model_is_left_as_it_is() -> None:
    recipe = Recipe.parse(settings_of({}), place="test")
    model = build_model(recipe.model, vocabulary_size=300).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    sample_macs(model, sample_work(recipe, recipe.train, TOKENS), recipe.objective.build())
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_fewer_tokens_are_what_a_batch_has() -> None:
    recipe = Recipe.parse(settings_of({"train": {"text_tokens": {"kind": "random", "keep": 5}}}), place="test")
    stage, source = recipe.train, recipe.data.train.open()
    assert stage.text_tokens is not None
    captions = [text for texts in readable_captions(source) for text in texts]
    tokenizer = train_tokenizer(captions, vocabulary_size=300, context_length=16)
    reduced, _ = encode_reduced(stage.text_tokens, tokenizer, captions, [[0]] * len(captions))
    assert padded_tokens(source, tokenizer, stage) == reduced.shape[1] == 5
    assert padded_tokens(source, tokenizer, stage.model_copy(update={"text_tokens": None})) > 5


def test_the_longest_of_a_batch() -> None:
    lengths = [5, 9, 12, 30]
    assert expected_longest(lengths, 1) == 14
    assert expected_longest(lengths, 1000) == 30
    draws = torch.tensor(lengths)[torch.randint(0, 4, (20_000, 3), generator=torch.Generator().manual_seed(0))]
    assert expected_longest(lengths, 3) == pytest.approx(float(draws.max(1).values.float().mean()), abs=0.6)
