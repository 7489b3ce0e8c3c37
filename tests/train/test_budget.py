"""A stage that a time ends, by a clock that the test moves."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count, pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from pocketclip.errors import Interrupted, UserError
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import CachedTower
from pocketclip.objectives.config import ContrastiveObjectiveConfig
from pocketclip.stages.watch import BrokenItems, Watch
from pocketclip.train import interrupt, loop
from pocketclip.train.budget import CountedSteps, Spent, StepPlan, TimeBudget
from pocketclip.train.config import CosineScheduleConfig, TrainConfig
from pocketclip.train.loop import Trainer
from pocketclip.train.metrics import read_metrics
from pocketclip.train.schedule import rate_factor
from pocketclip.types import ImageTextBatch

STEPS_PER_EPOCH = 5


def batches(start: int) -> Iterator[ImageTextBatch]:
    """Features of a step by its number."""
    for step in count(start):
        random = torch.Generator().manual_seed(step % STEPS_PER_EPOCH)
        images, ids = torch.randn(6, 8, generator=random), torch.arange(6)
        yield ImageTextBatch(images, images.flip(1), torch.ones(6, 0, dtype=torch.bool), ids, ids)


def model() -> DualEncoder:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.1))
    return DualEncoder(CachedTower(), CachedTower(), head, nn.Linear(8, 4))


class Clock:
    """Stands still but for what the test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop.time, "perf_counter", clock)
    return clock


def timed(clock: Clock, seconds: Callable[[int], float]) -> Callable[[int], Iterator[ImageTextBatch]]:
    """Batches of which each takes its step's seconds."""

    def make(start: int) -> Iterator[ImageTextBatch]:
        for step, batch in enumerate(batches(start), start + 1):
            clock.now += seconds(step)
            yield batch

    return make


def run(
    folder: Path,
    clock: Clock,
    *,
    budget: float = 100.0,
    seconds: Callable[[int], float] = lambda step: 1.0,
    started: float = 100.0,
    after: float = 0.0,
    evaluation: float | None = None,
    checkpoint: float = 0.0,
    resume: bool = False,
    watch: Watch | None = None,
    **changes: object,
) -> Trainer:
    """A trainer that has run to its end."""
    spent = Spent(started, clock)
    settings = {
        "budget": {"seconds": budget}, "batch_size": 6, "learning_rate": {"heads": 0.01}, "log_every": 1, **changes
    }  # fmt: skip

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        clock.now += evaluation or 0.0
        return {"mean_recall": 0.5, "val_loss": 1.0}

    trainer = Trainer(
        "train", model(), ContrastiveObjectiveConfig().build(), timed(clock, seconds),
        TrainConfig.parse(settings, place="test"), steps_per_epoch=STEPS_PER_EPOCH,
        evaluate=None if evaluation is None else evaluate, folder=folder, seed=0,
        watch=BrokenItems(100, 0.05, watch=watch or Watch()), spent=spent,
        budget=TimeBudget(lambda: budget, spent, after=after, evaluation_seconds=evaluation or 0.0),
    )  # fmt: skip
    save = trainer.save

    def slow_save() -> None:
        clock.now += checkpoint
        save()

    trainer.save = slow_save  # type: ignore[method-assign]
    trainer.run(resume=resume)
    return trainer


def rates(folder: Path) -> list[float]:
    return [row["learning_rate_heads"] for row in read_metrics(folder) if "learning_rate_heads" in row]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 100),
        ({"seconds": lambda step: 8.0 if step == 1 else 1.0}, 93),  # the first one starts workers
        ({"seconds": lambda step: 0.2}, 500),
        ({"seconds": lambda step: 30.0}, 3),
        ({"started": 60.0}, 60),  # data and caches came before
        ({"after": 25.0}, 75),
        ({"evaluation": 10.0, "evaluate_every": None}, 90),
        ({"evaluation": 2.0, "evaluate_every": 2}, 84),  # every ten steps, and at the end
        ({"checkpoint": 1.0, "checkpoint_every": 10}, 91),
        ({"seconds": lambda step: 1.0 if step < 40 else 2.0}, 69),
        ({"seconds": lambda step: 2.0 if step < 20 else 1.0}, 81),
        ({"seconds": lambda step: 1.0 + 0.5 * (step % 2)}, 80),
    ],
)  # fmt: skip
def test_the_stage_ends_with_its_time(tmp_path: Path, clock: Clock, options: dict[str, object], steps: int) -> None:
    trainer = run(tmp_path, clock, **options)  # type: ignore[arg-type]
    assert trainer.progress.step == pytest.approx(steps, rel=0.03, abs=1)
    ended = clock.now - float(options.get("started", 100.0)) + float(options.get("after", 0.0))  # type: ignore[arg-type]
    longest = max(options.get("seconds", lambda step: 1.0)(step) for step in (2, 50))  # type: ignore[operator]
    assert ended == pytest.approx(100.0, abs=max(3.0, longest / 2 + 0.1))


@pytest.mark.parametrize("seconds", [lambda step: 1.0, lambda step: 1.0 if step < 40 else 2.0])
def test_the_schedule_reaches_its_end_without_a_jump(
    tmp_path: Path, clock: Clock, seconds: Callable[[int], float]
) -> None:
    trainer = run(tmp_path, clock, seconds=seconds, schedule={"kind": "cosine", "warmup": 0.1})
    seen = rates(tmp_path)
    assert len(seen) == trainer.progress.step
    assert max(seen) == pytest.approx(0.01, rel=0.02)
    assert seen[-1] < 0.01 * 0.005
    peak = seen.index(max(seen))
    falling = seen[peak:]
    assert all(later <= earlier for earlier, later in pairwise(falling))
    assert max(earlier - later for earlier, later in pairwise(falling)) < 0.01 * 0.1


@pytest.mark.parametrize("later", [0.5, 2.0])
def test_a_warm_up_of_so_many_steps_is_that_long_in_a_changed_plan(tmp_path: Path, clock: Clock, later: float) -> None:
    schedule = {"kind": "constant", "warmup_steps": 20, "cooldown": 0.2}
    run(tmp_path, clock, seconds=lambda step: 1.0 if step < 10 else later, schedule=schedule)
    seen = rates(tmp_path)[:30]
    assert seen == pytest.approx([0.01 * min(1.0, (step + 1) / 20) for step in range(1, 31)])


def test_on_a_steady_machine_the_rates_are_those_of_the_planned_steps(tmp_path: Path, clock: Clock) -> None:
    steps = run(tmp_path, clock).progress.step
    config = CosineScheduleConfig()
    assert rates(tmp_path)[6:] == pytest.approx(
        [0.01 * rate_factor(config, step, steps) for step in range(7, steps + 1)]
    )


class StopAt(Watch):
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        if done == self.at:
            raise Interrupted("stopped")


@pytest.mark.slow
@pytest.mark.parametrize("stopped_at", [5, 9, 41, 97])
def test_a_pause_is_not_counted_and_resuming_is_exact(tmp_path: Path, clock: Clock, stopped_at: int) -> None:
    whole = run(tmp_path / "whole", clock, checkpoint_every=1)
    clock.now = 100.0
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", clock, checkpoint_every=1, watch=StopAt(stopped_at))
    clock.now += 86_400  # a night, and a new process that starts up
    again = run(tmp_path / "cut", clock, checkpoint_every=1, resume=True, started=clock.now - 30)
    assert again.progress.step == whole.progress.step
    assert again.spent.seconds() == pytest.approx(100.0, abs=1.5)
    assert rates(tmp_path / "cut") == pytest.approx(rates(tmp_path / "whole"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_a_stopped_process_does_not_count(tmp_path: Path, clock: Clock) -> None:
    def seconds(step: int) -> float:
        if step == 30:
            interrupt.CONTINUED.set()  # as the handler of SIGCONT does
        return 1000.0 if step == 30 else 1.0

    trainer = run(tmp_path, clock, seconds=seconds)
    assert trainer.progress.step == 100
    assert trainer.spent.seconds() == pytest.approx(100.0)


def test_a_resumed_run_on_a_slower_machine_still_ends_with_its_time(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, clock, checkpoint_every=1, watch=StopAt(41))
    again = run(tmp_path, clock, checkpoint_every=1, resume=True, seconds=lambda step: 3.0)
    assert again.spent.seconds() == pytest.approx(100.0, abs=3.0)


@pytest.mark.parametrize("budget", [0.5, 5.0])
def test_a_budget_too_small_for_one_batch_is_refused(tmp_path: Path, clock: Clock, budget: float) -> None:
    with pytest.raises(UserError, match="too small for one batch, which takes 8 seconds"):
        run(tmp_path, clock, budget=budget, seconds=lambda step: 8.0)


def test_one_batch_is_a_run(tmp_path: Path, clock: Clock) -> None:
    assert run(tmp_path, clock, budget=8.0, seconds=lambda step: 8.0).progress.step == 1


def test_the_place_in_a_changed_plan_goes_from_nothing_to_all() -> None:
    plan = StepPlan(100)
    assert [plan.position(step) for step in (0, 40, 100)] == [0, 40, 100]
    slower = plan.changed(40, 60)
    assert slower.position(40) == pytest.approx(24)  # of 60, the share that it was
    assert slower.position(60) == pytest.approx(60)
    faster = slower.changed(50, 90)
    assert faster.position(50) / 90 == pytest.approx(slower.position(50) / 60)
    assert faster.position(90) == pytest.approx(90)


def test_counted_steps_are_left_alone() -> None:
    plan = CountedSteps().first_plan(20)
    assert plan == StepPlan(20)
    assert CountedSteps().after_step(7, 1e9, plan) is plan
