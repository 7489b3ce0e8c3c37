"""The loop: logging, evaluating, stopping, keeping the best, and failing with a clear line."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pocketclip.errors import UserError
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import CachedTower
from pocketclip.objectives.config import ContrastiveObjectiveConfig, DistillationObjectiveConfig
from pocketclip.stages.watch import BrokenItems, Watch
from pocketclip.train.config import TrainConfig
from pocketclip.train.loop import Teach, Trainer
from pocketclip.train.metrics import read_metrics
from pocketclip.train.rates import CosineScheduleConfig
from pocketclip.train.schedule import rate_factor
from pocketclip.types import Features, ImageTextBatch, TeacherFeatures

STEPS_PER_EPOCH = 5


class Quiet(Watch):
    """Remembers notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def batches(start: int) -> Iterator[ImageTextBatch]:
    """The same features again and again from any step on."""
    step = start
    while True:
        random = torch.Generator().manual_seed(step % STEPS_PER_EPOCH)
        images = torch.randn(6, 8, generator=random)
        yield ImageTextBatch(
            images=images,
            tokens=images.flip(1) + 0.1 * torch.randn(6, 8, generator=random),
            token_mask=torch.ones(6, 0, dtype=torch.bool),
            image_ids=torch.arange(6),
            caption_ids=torch.arange(6),
        )
        step += 1


def model() -> DualEncoder:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.1))
    return DualEncoder(CachedTower(), CachedTower(), head, nn.Linear(8, 4))


def trainer(
    folder: Path,
    *,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    objective: object = None,
    data: Callable[[int], Iterator[ImageTextBatch]] = batches,
    watch: Quiet | None = None,
    teach: Teach | None = None,
    **changes: object,
) -> Trainer:
    settings = {"num_steps": 20, "batch_size": 6, "learning_rate": {"heads": 0.01}, "log_every": 1, **changes}
    return Trainer(
        "train",
        model(),
        objective or ContrastiveObjectiveConfig().build(),  # type: ignore[arg-type]
        data,
        TrainConfig.parse(settings, place="test"),
        steps_per_epoch=STEPS_PER_EPOCH,
        evaluate=evaluate,
        folder=folder,
        seed=0,
        watch=BrokenItems(100, 0.05, watch=watch or Quiet()),
        teach=teach,
    )


def test_the_loss_falls_and_every_step_is_logged(tmp_path: Path) -> None:
    trainer(tmp_path, num_steps=60).run(resume=False)
    losses = [row["loss"] for row in read_metrics(tmp_path)]
    assert len(losses) == 60
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    def broken_at_13(features: Features, batch: ImageTextBatch) -> dict[str, Tensor]:
        del batch
        broken_at_13.calls += 1  # type: ignore[attr-defined]
        factor = float("nan") if broken_at_13.calls == 13 else 1.0  # type: ignore[attr-defined]
        return {"made_up": features.image.square().mean() * factor}

    broken_at_13.calls = 0  # type: ignore[attr-defined]
    run = trainer(tmp_path, objective=broken_at_13, log_every=7, checkpoint_every=5)
    with pytest.raises(UserError, match=r"step 13: the loss is not finite .*made_up nan.*--resume") as error:
        run.run(resume=False)
    assert "step-00000010.pt" in str(error.value)
    assert [path.name for path in run.checkpoints.steps()] == ["step-00000005.pt", "step-00000010.pt"]
    weights = torch.load(run.checkpoints.steps()[-1], weights_only=True)["model"]
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_evaluations_come_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    steps = []

    def evaluate(measured: nn.Module) -> dict[str, float]:
        assert not measured.training
        steps.append(run.progress.step)
        return {"mean_recall": 0.5, "val_loss": 1.0}

    run = trainer(tmp_path, evaluate=evaluate, num_steps=18, evaluate_every=2)
    run.run(resume=False)
    assert steps == [10, 18]


def test_training_stops_early_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    scores = iter([0.1, 0.4, 0.3, 0.2, 0.9])
    seen: list[Tensor] = []

    def evaluate(measured: nn.Module) -> dict[str, float]:
        seen.append(measured.text_head.weight.detach().clone())  # type: ignore[union-attr, operator]
        return {"mean_recall": next(scores)}

    watch = Quiet()
    run = trainer(tmp_path, evaluate=evaluate, num_steps=100, keep="best", early_stopping={"patience": 2}, watch=watch)
    progress = run.run(resume=False)
    assert (progress.step, progress.best, progress.best_step) == (20, 0.4, 10)
    assert torch.equal(run.model.text_head.weight, seen[1])
    assert "no better mean_recall since step 10" in watch.notes[-1]


def test_an_unknown_metric_lists_the_known_ones(tmp_path: Path) -> None:
    run = trainer(tmp_path, evaluate=lambda _: {"mean_recall": 0.1}, keep="best", keep_metric="recal")
    with pytest.raises(
        UserError, match=r"no validation metric 'recal'\. Did you mean 'mean_recall'\? Known: mean_recall"
    ):
        run.run(resume=False)


def test_the_average_of_the_weights_is_what_is_kept(tmp_path: Path) -> None:
    run = trainer(tmp_path, num_steps=3, ema_decay=0.5)
    history = []
    original = run.optimizer.step

    def step(*args: object, **kwargs: object) -> None:
        original(*args, **kwargs)  # type: ignore[arg-type]
        history.append(run.model.text_head.weight.detach().clone())

    run.optimizer.step = step  # type: ignore[method-assign, assignment]
    run.run(resume=False)
    expected = history[0]  # the first update copies, as torch's AveragedModel does
    for weights in history[1:]:
        expected = 0.5 * expected + 0.5 * weights
    assert torch.allclose(run.model.text_head.weight, expected)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    run = trainer(tmp_path, num_steps=1, max_grad_norm=1e-3)
    run.run(resume=False)
    total = torch.sqrt(sum(p.grad.square().sum() for p in run.model.parameters() if p.grad is not None))
    assert float(total) == pytest.approx(1e-3, rel=1e-3)


def test_broken_items_are_noted_once_and_stop_the_run_above_the_share(tmp_path: Path) -> None:
    def with_broken(start: int) -> Iterator[ImageTextBatch]:
        for number, batch in enumerate(batches(start)):
            message = f"x{number}.jpg: damaged"
            yield ImageTextBatch(**{**vars(batch), "broken": [message]})

    watch = Quiet()
    with pytest.raises(UserError, match=r"20 of 100 items are broken, more than the allowed share of 5.0%"):
        trainer(tmp_path, data=with_broken, watch=watch).run(resume=False)
    assert watch.notes[:2] == ["left out: x0.jpg: damaged", "left out: x1.jpg: damaged"]


def test_a_batch_with_less_than_two_pairs_is_passed_over(tmp_path: Path) -> None:
    def nearly_empty(start: int) -> Iterator[ImageTextBatch]:
        for batch in batches(start):
            yield batch.pairs(0, 1)

    run = trainer(tmp_path, data=nearly_empty, num_steps=3)
    before = run.model.text_head.weight.detach().clone()
    assert run.run(resume=False).step == 3
    assert torch.equal(run.model.text_head.weight, before)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema_decay": 0.9, "schedule": {"kind": "constant", "warmup": 0.2}},
        {
            "schedule": {"kind": "plateau", "metric": "val_loss", "patience": 0},
            "keep": "best",
            "keep_metric": "val_loss",
        },
    ],
    ids=["plain", "average", "plateau"],
)
@pytest.mark.parametrize("stop", [1, 7, 10, 19])
def test_going_on_from_any_step_ends_with_the_same_bits(tmp_path: Path, stop: int, changes: dict[str, object]) -> None:
    def evaluate(measured: nn.Module) -> dict[str, float]:
        return {"val_loss": float(measured.text_head.weight.detach().abs().sum()), "mean_recall": 0.0}  # type: ignore[union-attr, operator]

    whole = trainer(tmp_path / "whole", evaluate=evaluate, checkpoint_every=3, **changes)
    whole.run(resume=False)

    class Killed(Exception):  # noqa: N818
        pass

    def killed_at(start: int) -> Iterator[ImageTextBatch]:
        for number, batch in enumerate(batches(start), start=start):
            if number == stop:
                raise Killed
            yield batch

    first = trainer(tmp_path / "cut", evaluate=evaluate, data=killed_at, checkpoint_every=3, **changes)
    with pytest.raises(Killed):
        first.run(resume=False)
    second = trainer(tmp_path / "cut", evaluate=evaluate, checkpoint_every=3, **changes)
    second.run(resume=True)
    for (name, expected), actual in zip(
        whole.model.state_dict().items(), second.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, actual), name
    assert read_metrics(tmp_path / "whole") == read_metrics(tmp_path / "cut")


# Objectives that learn, from teachers


def distillation() -> nn.Module:
    """All terms that learn something, from a teacher of another width than the student's 4."""
    terms = [{"kind": kind} for kind in ("contrastive", "feature", "interactive", "gradient")]
    torch.manual_seed(1)
    config = DistillationObjectiveConfig.parse({"terms": terms}, place="test")
    return config.build(embed_dim=4, teacher_widths=(5,))


def teach(batch: ImageTextBatch, chunk_size: int | None) -> ImageTextBatch:
    """A teacher that sees the first numbers of what the student sees."""
    assert chunk_size is None
    assert not torch.is_grad_enabled()
    image, text = (nn.functional.normalize(rows[:, :5], dim=1) for rows in (batch.images, batch.tokens))
    return replace(batch, teachers=(TeacherFeatures(image, text, 20.0),))


def test_what_an_objective_learns_is_trained_at_the_heads_rate(tmp_path: Path) -> None:
    objective = distillation()
    before = {name: value.detach().clone() for name, value in objective.named_parameters()}
    run = trainer(tmp_path, objective=objective, teach=teach, num_steps=30, learning_rate={"heads": 0.02})
    run.run(resume=False)
    groups = [group for group in run.optimizer.param_groups if group["part"] == "objective"]
    assert {group["initial_lr"] for group in groups} == {0.02}
    assert sum(len(group["params"]) for group in groups) == len(before) == 3
    assert all(not torch.equal(before[name], value) for name, value in objective.named_parameters())
    rows = read_metrics(tmp_path)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert {"contrastive", "feature", "interactive", "gradient", "learning_rate_objective"} <= rows[0].keys()


def test_heads_without_a_rate_leave_none_for_the_objective(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"learning_rate\.heads: is off, but the objective has learned parts"):
        trainer(tmp_path, objective=distillation(), learning_rate={"image_encoder": 0.1})


@pytest.mark.parametrize("stop", [1, 7, 19])
def test_an_objective_that_learns_goes_on_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    def killed_at(start: int) -> Iterator[ImageTextBatch]:
        for number, batch in enumerate(batches(start), start=start):
            if number == stop:
                raise Killed
            yield batch

    whole = trainer(tmp_path / "whole", objective=distillation(), teach=teach, checkpoint_every=3)
    whole.run(resume=False)
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", objective=distillation(), teach=teach, data=killed_at, checkpoint_every=3).run(
            resume=False
        )
    second = trainer(tmp_path / "cut", objective=distillation(), teach=teach, checkpoint_every=3)
    second.run(resume=True)
    for one, other in ((whole.model, second.model), (whole.objective, second.objective)):
        for expected, actual in zip(one.state_dict().values(), other.state_dict().values(), strict=True):  # type: ignore[attr-defined]
            assert torch.equal(expected, actual)
    assert read_metrics(tmp_path / "whole") == read_metrics(tmp_path / "cut")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("passed_over", [(0,), (0, 1, 4), (2, 19), tuple(range(20))])
def test_rates_are_the_planned_ones_where_batches_are_passed_over(passed_over: tuple[int, ...], tmp_path: Path) -> None:
    used: dict[int, float] = {}

    def run(stop: int | None) -> Trainer:
        def with_broken(start: int) -> Iterator[ImageTextBatch]:
            for step, batch in enumerate(batches(start), start):
                if step == stop:
                    raise KeyboardInterrupt
                yield batch.pairs(0, 1) if step in passed_over else batch

        own = trainer(tmp_path, data=with_broken, schedule={"kind": "cosine", "warmup": 0.2}, checkpoint_every=3)
        own.optimizer.register_step_pre_hook(
            lambda optimizer, *_: used.update({own.progress.step: optimizer.param_groups[0]["lr"]})
        )
        return own

    with pytest.raises(KeyboardInterrupt):
        run(stop=8).run(resume=False)
    run(stop=None).run(resume=True)  # from step 6
    config = CosineScheduleConfig(warmup=0.2)
    assert used == {step: 0.01 * rate_factor(config, step, 20) for step in range(20) if step not in passed_over}
