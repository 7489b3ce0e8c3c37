"""Runs that wait at a rung end as if nobody had looked, and a pause is not their time."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from conftest import QuietWatch
from pocketclip.errors import Interrupted
from pocketclip.recipe import load_recipe
from pocketclip.run.train import Outcome, train
from pocketclip.train.rung import RungReached


def run(recipe: Path, folder: Path, *changes: str, until: float = 1.0, watch: QuietWatch | None = None) -> Outcome:
    watch = watch or QuietWatch()
    loaded = load_recipe(str(recipe), changes)
    return train(loaded, folder, name="tiny", watch=watch, resume=True, device="cpu", until=until)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [(), pytest.param(("train.keep=best", "train.schedule={kind: plateau, patience: 0}"), marks=pytest.mark.slow)],
)
def test_a_run_that_waits_ends_as_one_that_does_not(
    changes: tuple[str, ...], tiny_recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = tiny_recipe_file(num_steps=8, evaluate_every=0.5)
    straight = run(recipe, tmp_path / "straight", *changes)
    for until, step in ((0.25, 2), (0.6, 5), (0.6, 5)):  # the last comes back to where it was
        with pytest.raises(RungReached) as reached:
            run(recipe, tmp_path / "waiting", *changes, until=until)
        assert reached.value.step == step
        assert {"mean_recall", "val_loss"} <= reached.value.scores.keys()
    waited = run(recipe, tmp_path / "waiting", *changes)
    assert waited.record.metrics == straight.record.metrics
    embeddings = [outcome.splits["val"].embeddings for outcome in (straight, waited)]
    np.testing.assert_array_equal(embeddings[0].images, embeddings[1].images)
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("straight", "waiting")]
    steps = [[json.loads(line)["step"] for line in text.splitlines() if "mean_recall" in line] for text in lines]
    assert steps[0] == steps[1]


class Stopping(QuietWatch):
    """Stops a run after a step, as Ctrl-C does."""

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        if done == 3:
            raise Interrupted("Stopped.")


@pytest.mark.slow
def test_a_pause_is_not_time_of_the_run(tiny_recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    recipe, folder = tiny_recipe_file(num_steps=6, checkpoint_every=1), tmp_path / "run"
    started = time.perf_counter()
    with pytest.raises(RungReached):
        run(recipe, folder, until=0.2)
    with pytest.raises(Interrupted):
        run(recipe, folder, watch=Stopping())
    before = time.perf_counter() - started
    time.sleep(1.5)
    started = time.perf_counter()
    outcome = run(recipe, folder)
    after = time.perf_counter() - started
    assert outcome.record.num_steps == 6
    assert outcome.record.seconds["total"] < before + after
    assert outcome.record.seconds["train_train"] < before + after
