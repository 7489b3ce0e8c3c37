"""Training on several ranks follows the same curve as one process with the whole batch."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pocketclip import distributed
from pocketclip.config import kinds_of
from pocketclip.errors import UserError
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import ImageTower, TextTower
from pocketclip.objectives.config import (
    ContrastiveObjectiveConfig,
    DistillationObjectiveConfig,
    ReinforcedObjectiveConfig,
)
from pocketclip.objectives.terms import TermConfig
from pocketclip.stages.watch import BrokenItems
from pocketclip.train.config import TrainConfig
from pocketclip.train.loop import Trainer
from pocketclip.train.parallel import blocks_of
from pocketclip.types import ImageTextBatch, Objective, TeacherFeatures
from processes import run_ranks

LOSSES = ["clip", "sigmoid", "soft_target", "multi_positive"]
TAUGHT = ["reinforced", "distillation"]
BATCH, STEPS = 14, 20


class Tower(ImageTower, TextTower):
    """Layers in a list, as transformers have them; no dropout, which no two ranks draw alike."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width, 12)
        self.layers = nn.ModuleList([nn.Linear(12, 12) for _ in range(2)])

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        values = self.embed(values)
        for layer in self.layers:
            values = values + layer(values).tanh()
        return values


def build(loss: str) -> DualEncoder:
    torch.manual_seed(0)
    bias = -2.5 if loss == "sigmoid" else None
    return DualEncoder(Tower(6), Tower(5), nn.Linear(12, 8), nn.Linear(12, 8), logit_bias=bias)


def build_objective(loss: str) -> Objective:
    """By the loss's name, or by the method's."""
    torch.manual_seed(1)
    if loss == "reinforced":
        return ReinforcedObjectiveConfig(distill_weight=0.7).build(embed_dim=8, teacher_widths=(5, 8))
    if loss == "distillation":
        small = {"gradient": 0.001}  # a hundred times all others at weight 1, it would alone be what is compared
        terms = [{"kind": kind, "weight": small.get(kind, 1.0)} for kind in kinds_of(TermConfig)]
        config = DistillationObjectiveConfig.parse({"terms": terms}, place="test")
        return config.build(embed_dim=8, teacher_widths=(5, 8))
    return ContrastiveObjectiveConfig(loss={"kind": loss}).build()


def teach(batch: ImageTextBatch, chunk_size: int | None) -> ImageTextBatch:
    """Two teachers that see a part of what the student sees, each at its own temperature."""
    del chunk_size
    teachers = []
    for number, (width, scale) in enumerate(((5, 20.0), (8, 9.0))):
        random = torch.Generator().manual_seed(number)
        maps = torch.randn(5, width, generator=random)
        image, text = (nn.functional.normalize(rows[:, :5] @ maps, dim=1) for rows in (batch.images, batch.tokens))
        teachers.append(TeacherFeatures(image, text, scale))
    return replace(batch, teachers=tuple(teachers), num_synthetic=1)


class Killed(Exception):  # noqa: N818 (not an error of ours)
    """Stands for a process that is gone."""


def batches(start: int, own: bool, captions: int, killed_at: int | None = None) -> Iterator[ImageTextBatch]:
    """The same batches whoever asks; each rank takes its share, with a hole on one of them in step 3."""
    for step in range(start, STEPS):
        if step == killed_at:
            raise Killed
        random = torch.Generator().manual_seed(step)
        noise = torch.randn(BATCH, 6, generator=random)
        texts = noise[:, :5].repeat_interleave(captions, 0) + 0.5 * torch.randn(BATCH * captions, 5, generator=random)
        caption_ids = torch.randint(0, 3 * BATCH, (BATCH * captions,), generator=random)
        mask = torch.ones(BATCH * captions, 0, dtype=torch.bool)
        whole = ImageTextBatch(noise, texts, mask, torch.arange(BATCH), caption_ids)
        place = distributed.own_share(BATCH) if own else slice(0, BATCH)
        missing = int(step == 3 and place.stop == BATCH)  # the last item is broken
        part = whole.pairs(place.start, place.stop - missing)
        yield replace(part, broken=[f"item {step}"] * missing)


def curve(
    folder: Path, *, fsdp: bool = False, resume: bool = False, killed_at: int | None = None, **changes: Any
) -> list[float]:
    """Loss, gradient norm and temperature of every step through the trainer, and a sum of weights at evaluations."""
    loss = changes.pop("loss", "clip")
    captions = 2 if loss in ("sigmoid", "multi_positive", *TAUGHT) else 1
    settings = {"num_steps": STEPS, "batch_size": BATCH, "log_every": 1, "precision": "float32", "max_grad_norm": 0.5}
    rates = {"heads": 0.02, "image_encoder": 0.02, "text_encoder": 0.02}
    config = TrainConfig.parse({**settings, "learning_rate": rates, **changes}, place="test")
    trainer = Trainer(
        "train",
        build(loss),
        build_objective(loss),
        lambda start: batches(start, distributed.world_size() > 1, captions, killed_at),
        config,
        steps_per_epoch=10,
        evaluate=lambda model: {"weight": model.text_head.weight.sum().item()},
        folder=folder,
        seed=0,
        watch=BrokenItems(1000, 0.5),
        teach=teach if loss in TAUGHT else None,
        with_sharding=fsdp,
    )
    values: list[float] = []
    write = trainer._write

    def keep(row: Any) -> None:
        values.extend(row[name] for name in ("loss", "grad_norm", "weight", "temperature") if name in row)
        write(row)

    trainer._write = keep  # type: ignore[method-assign]
    try:
        trainer.run(resume=resume)
    except Killed:
        assert killed_at is not None
    return values


def every_loss(
    rank: int, folder: str, fsdp: bool, chunk_size: int | None, losses: list[str] = LOSSES
) -> dict[str, list[float]]:
    del rank
    return {
        loss: curve(Path(folder) / f"{loss}-{fsdp}-{chunk_size}", loss=loss, fsdp=fsdp, chunk_size=chunk_size)
        for loss in losses
    }


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [None, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fsdp", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ddp", "fsdp"])
def test_the_curve_of_several_ranks_is_that_of_one(tmp_path: Path, fsdp: bool, chunk_size: int | None) -> None:
    found = run_ranks(every_loss, 2, str(tmp_path), fsdp, chunk_size)
    for loss in LOSSES:
        expected = curve(tmp_path / loss, loss=loss)
        assert expected[0] != expected[-4], "nothing was learned"
        for ranks in found:
            assert ranks[loss] == pytest.approx(expected, rel=1e-5, abs=1e-5), loss


@pytest.mark.parametrize(
    ("fsdp", "chunk_size"),
    [pytest.param(*way, marks=pytest.mark.slow) for way in [(False, None), (False, 3), (True, 3)]],
)
def test_objectives_with_teachers_follow_the_curve_of_one(tmp_path: Path, fsdp: bool, chunk_size: int | None) -> None:
    found = run_ranks(every_loss, 2, str(tmp_path), fsdp, chunk_size, TAUGHT)
    for loss in TAUGHT:
        expected = curve(tmp_path / loss, loss=loss)
        for ranks in found:
            assert ranks[loss] == pytest.approx(expected, rel=2e-5, abs=2e-5), loss


@pytest.mark.slow
def test_what_an_objective_learned_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    expected = in_a_way("one", tmp_path / "whole", loss="distillation")
    in_a_way("two fsdp", tmp_path / "cut", loss="distillation", killed_at=17)
    rest = in_a_way("three", tmp_path / "cut", loss="distillation", resume=True)
    assert rest == pytest.approx(expected[-len(rest) :], rel=2e-5, abs=2e-5)


WAYS = {"one": (1, False), "two": (2, False), "three": (3, False), "two fsdp": (2, True)}


def some_steps(rank: int, folder: str, fsdp: bool, settings: dict[str, Any]) -> list[float]:
    del rank
    return curve(Path(folder), fsdp=fsdp, checkpoint_every=7, **settings)


def in_a_way(way: str, folder: Path, **settings: Any) -> list[float]:
    size, fsdp = WAYS[way]
    if size == 1:
        return some_steps(0, str(folder), fsdp, settings)
    return run_ranks(some_steps, size, str(folder), fsdp, settings)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"), [("two", "one"), ("one", "three"), ("two fsdp", "one"), ("three", "two fsdp")]
)
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path: Path, before: str, after: str) -> None:
    expected = in_a_way("one", tmp_path / "whole")
    first = in_a_way(before, tmp_path / "cut", killed_at=17)  # the newest checkpoint is of step 14
    rest = in_a_way(after, tmp_path / "cut", resume=True)
    assert first == pytest.approx(expected[: len(first)], rel=1e-5, abs=1e-5)
    assert rest == pytest.approx(expected[-len(rest) :], rel=1e-5, abs=1e-5)
    assert len(rest) == 3 * 6 + 1  # three numbers a step and the last evaluation
    lines = [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in ("whole", "cut")]
    assert lines[0] == lines[1]


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["last", "best"])
def test_every_rank_ends_with_the_same_weights(tmp_path: Path, keep: str) -> None:
    settings = {"keep": keep, "keep_metric": "weight", "evaluate_every": 0.3}
    kept = [in_a_way(way, tmp_path / way, **settings) for way in WAYS]
    for other in kept[1:]:
        assert other == pytest.approx(kept[0], rel=1e-5, abs=1e-5)
    finals = [torch.load(tmp_path / way / "checkpoints" / "train" / "final.pt", weights_only=True) for way in WAYS]
    for name, expected in finals[0]["model"].items():
        for final in finals[1:]:
            assert torch.allclose(final["model"][name], expected, rtol=1e-4, atol=1e-5), name
    assert len({final["progress"]["best_step"] for final in finals}) == 1


def refused(rank: int, folder: str) -> str:
    del rank
    with pytest.raises(UserError) as error:
        curve(Path(folder), fsdp=True, ema_decay=0.9)
    return str(error.value)


def test_an_average_of_spread_weights_is_refused(tmp_path: Path) -> None:
    for message in run_ranks(refused, 2, str(tmp_path)):
        assert "ema_decay" in message
        assert "--fsdp" in message


def test_blocks_are_the_layers_of_the_outermost_lists() -> None:
    tower = Tower(6)
    assert blocks_of(tower) == list(tower.layers)
    assert blocks_of(nn.Linear(2, 2)) == []
