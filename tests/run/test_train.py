"""A whole run from recipe to bundle: exact resuming, the cached path, hold-out, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import pocketclip
from conftest import QuietWatch, tiny_model_settings, tiny_recipe_settings
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import Retrieval, TaskData
from pocketclip.features.encode import embed_source
from pocketclip.recipe import Recipe
from pocketclip.records import EvalResult, RunRecord, read_records
from pocketclip.run.plan import samples_seen
from pocketclip.run.train import Outcome, train


def recipe(**changes: object) -> Recipe:
    return Recipe.parse(tiny_recipe_settings(**changes), place="test")


def run(folder: Path, *, resume: bool = False, **changes: object) -> Outcome:
    return train(recipe(**changes), folder, name="tiny", watch=QuietWatch(), resume=resume)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "bundle" / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    for name in one:
        assert np.array_equal(one[name], two[name]), name


def test_a_run_leaves_bundle_records_metrics_and_its_recipe(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"bundle", "records", "metrics.jsonl", "recipe.yaml"}
    records = read_records(tmp_path / "run")
    evaluation = next(record for record in records if isinstance(record, EvalResult))
    record = next(record for record in records if isinstance(record, RunRecord))
    assert (evaluation.split, evaluation.num_images, evaluation.num_captions) == ("val", 8, 16)
    assert evaluation.seed == 0
    assert evaluation.recipe_hash == record.recipe_hash
    assert record.provenance.hardware
    assert outcome.model.encode_text("a red circle").shape == (1, 16)


def test_the_record_holds_the_time_of_an_epoch_and_the_price(tmp_path: Path) -> None:
    started = time.perf_counter()
    settings = recipe(num_epochs=2, num_steps=None, evaluate_every=0.5)
    record = train(
        settings, tmp_path / "run", name="tiny", watch=QuietWatch(), dollars_per_hour=3600.0, with_energy=True
    ).record
    passed = time.perf_counter() - started
    assert record.seconds_per_epoch["train_train"] == pytest.approx(record.seconds["train_train"] / 2)
    assert record.seconds_per_epoch["train_validate"] == pytest.approx(record.seconds["train_validate"] / 4)
    assert sum(value for key, value in record.seconds.items() if key != "total") < record.seconds["total"] < passed
    assert record.price_dollars == pytest.approx(record.seconds["total"])


def test_the_time_before_a_stop_counts(tmp_path: Path) -> None:
    first = run(tmp_path / "run").record
    again = run(tmp_path / "run", resume=True).record
    assert again.seconds["train_train"] == first.seconds["train_train"]
    assert again.seconds["total"] > first.seconds["train_train"]


def test_the_bundle_scores_what_the_run_recorded(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", cache={"views": ["centre", "crop"]}, num_steps=30)
    loaded = pocketclip.load(str(tmp_path / "run"))
    measured = Retrieval().run(loaded, TaskData(outcome.splits["val"].source))
    for name, value in outcome.splits["val"].result.metrics.items():
        if "recall" in name:
            # 16 queries; features are stored as float16, so a near tie may fall the other way
            assert abs(measured.metrics[name].value - value.value) <= 1 / 16, name  # type: ignore[union-attr]


def test_the_same_recipe_gives_the_same_bits(tmp_path: Path) -> None:
    run(tmp_path / "one", augment={"flip": True, "crop_scale": [0.5, 1.0]})
    run(tmp_path / "two", augment={"flip": True, "crop_scale": [0.5, 1.0]}, num_workers=0)
    assert_equal_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_workers_do_not_change_the_result(tmp_path: Path) -> None:
    run(tmp_path / "one", augment={"flip": True, "rand_augment": {}})
    run(tmp_path / "two", augment={"flip": True, "rand_augment": {}}, num_workers=2)
    assert_equal_weights(tmp_path / "one", tmp_path / "two")


def test_a_filled_cache_gives_the_same_bits_as_an_empty_one(tmp_path: Path) -> None:
    settings = {"cache": {"views": ["centre", "flip", "crop"]}, "num_steps": 12}
    run(tmp_path / "one", **settings)
    run(tmp_path / "two", **settings)
    assert_equal_weights(tmp_path / "one", tmp_path / "two")


def test_training_on_cached_features_equals_running_the_frozen_towers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batches through both paths, in float32: one view, one caption an image, no dropout."""
    from pocketclip.data.sources import webdataset  # noqa: F401 (imported before patching)
    from pocketclip.features import pairs

    changes = {"num_steps": 10, "precision": "float32", "evaluate_every": None, "max_grad_norm": None}
    settings = tiny_recipe_settings(**changes)
    settings["model"] = {**settings["model"], "text_head": {"kind": "linear"}}  # type: ignore[dict-item]

    def with_train(**more: object) -> Recipe:
        values = dict(settings)
        values["train"] = {**settings["train"], "learning_rate": {"heads": 0.001}, **more}  # type: ignore[dict-item]
        return Recipe.parse(values, place="test")

    monkeypatch.setattr(pairs, "draw_captions", lambda count, wanted, random: [0] * wanted)
    monkeypatch.setattr("pocketclip.data.batches.draw.draw_captions", lambda count, wanted, random: [0] * wanted)
    train(with_train(), tmp_path / "live", name="live", watch=QuietWatch())
    train(with_train(cache={"views": ["centre"]}), tmp_path / "cached", name="cached", watch=QuietWatch())
    live, cached = weights(tmp_path / "live"), weights(tmp_path / "cached")
    for name in live:
        if name.startswith(("image_head", "text_head", "logit")):
            # float16 features: three digits
            assert np.allclose(live[name], cached[name], atol=2e-3), name


SCRIPT = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[3])
import torch
torch.set_num_threads(1)
from pathlib import Path
from conftest import QuietWatch
from pocketclip.recipe import load_recipe
from pocketclip.run.train import train

killed_after = int(sys.argv[4])

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

class Reporter(QuietWatch):
    def step(self, name, done, total, images_per_second, metrics):
        if done == killed_after:
            threading.Timer(0.05, kill).start()  # somewhere within the steps that follow ...
        if done == killed_after + 5:
            kill()  # ... and not later than here, however slow the timer's thread is

train(load_recipe(sys.argv[1]), Path(sys.argv[2]), name="tiny", watch=Reporter(), resume=True)
"""

KILLED = {
    "num_steps": 40,
    "checkpoint_every": 7,
    "ema_decay": 0.9,
    "captions_per_image": 1,
    "chunk_size": 3,
    "augment": {"crop_scale": [0.5, 1.0], "flip": True, "rand_augment": {}},
    "early_stopping": {"metric": "mean_recall", "patience": 100},
    "num_workers": 1,
}


NEVER = 10**9


def start(
    recipe_file: Path, folder: Path, environment: dict[str, str], killed_after: int = NEVER
) -> subprocess.Popen[bytes]:
    place = [str(recipe_file), str(folder), str(Path(__file__).parents[1]), str(killed_after)]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *place], env=environment, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [1, 13, 30])
def test_killed_at_any_moment_and_resumed_ends_with_the_same_bits(
    tmp_path: Path, tiny_recipe_file: Callable[..., Path], killed_after: int
) -> None:
    file = tiny_recipe_file(**KILLED)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = start(file, tmp_path / "whole", environment)
    assert whole.wait() == 0, whole.stderr
    cut = start(file, tmp_path / "cut", environment, killed_after)
    assert cut.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "bundle").exists()
    again = start(file, tmp_path / "cut", environment)
    assert again.wait() == 0, again.stderr
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert lines[0] == lines[1]
    assert [path.name for path in (tmp_path / "cut" / "checkpoints" / "train").iterdir()] == ["final.pt"]


@pytest.mark.slow
def test_terminated_runs_write_a_checkpoint_of_the_last_step(
    tmp_path: Path, tiny_recipe_file: Callable[..., Path]
) -> None:
    file = tiny_recipe_file(**{**KILLED, "checkpoint_every": 1000, "num_steps": 2000})
    process = start(file, tmp_path / "run", {**os.environ, "OMP_NUM_THREADS": "1"})
    while not (tmp_path / "run" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() != 0
    assert b"Interrupted: train: stopped at step" in (process.stderr.read() if process.stderr else b"")
    assert len(list((tmp_path / "run" / "checkpoints" / "train").glob("step-*.pt"))) == 1


HEADS_FIRST = {"num_steps": 4, "batch_size": 4, "learning_rate": {"heads": 0.01}, "cache": {"views": ["centre"]}}
LOW = {"name": "low", "num_steps": 3, "batch_size": 4, "learning_rate": {"heads": 0.01, "image_encoder": 0.001}}
LOW["image_size"] = 16
TAIL = {"num_steps": 3, "batch_size": 4, "learning_rate": {"heads": 0.01}, "cache": {"views": ["centre"]}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({"heads_first": HEADS_FIRST}, ["heads_first 4/4", "train 4/6"]),
        pytest.param(
            {"heads_first": HEADS_FIRST, "early_stages": [LOW]},
            ["heads_first 4/4", "low 3/3", "train 4/6"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["two", "three, one of them at a low resolution"],
)
def test_a_stopped_run_goes_on_from_its_stage(
    settings: dict[str, object], stages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stage is cut, and those before it are not trained again."""
    recipe = Recipe.parse({**tiny_recipe_settings(num_steps=6, checkpoint_every=2), **settings}, place="test")
    train(recipe, tmp_path / "whole", name="tiny", watch=QuietWatch())

    import pocketclip.train.loop as loop

    original, calls, early_steps = loop.train_step, [], sum(int(stage.split("/")[1]) for stage in stages[:-1])

    def killed_late(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == early_steps + 5:
            raise KeyboardInterrupt
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", killed_late)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", name="tiny", watch=QuietWatch())
    monkeypatch.setattr(loop, "train_step", original)
    watch = QuietWatch()
    train(recipe, tmp_path / "cut", name="tiny", watch=watch, resume=True)
    assert watch.stages == stages
    assert_equal_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_stage_has_pictures_of_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pocketclip.train.loop as loop

    original, sides = loop.train_step, []

    def watched(model: Any, objective: Any, batch: Any, *args: Any, **kwargs: Any) -> object:
        sides.append(batch.images.shape[-1])
        return original(model, objective, batch, *args, **kwargs)

    monkeypatch.setattr(loop, "train_step", watched)
    recipe = Recipe.parse({**tiny_recipe_settings(num_steps=2), "early_stages": [LOW]}, place="test")
    outcome = train(recipe, tmp_path / "run", name="tiny", watch=QuietWatch())
    assert sides == [16, 16, 16, 32, 32]
    assert outcome.record.num_steps == 5
    assert {"low_train", "train_train"} <= set(outcome.record.seconds)


@pytest.mark.slow
def test_a_cached_stage_after_a_trained_tower_sees_that_tower(tmp_path: Path) -> None:
    settings = {**tiny_recipe_settings(), "heads_first": HEADS_FIRST, "early_stages": [LOW], "train": TAIL}
    recipe = Recipe.parse(settings, place="test")
    outcome = train(recipe, tmp_path / "run", name="tiny", watch=QuietWatch())
    val = outcome.splits["val"]
    now = embed_source(outcome.model, val.source)
    np.testing.assert_allclose(now.images, val.embeddings.images, atol=2e-3)  # the cache is in half precision


@pytest.mark.parametrize("train_settings", [{"cache": {"views": ["centre"]}}, {}])
def test_a_second_look_is_for_the_finished_model_alone(tmp_path: Path, train_settings: dict[str, object]) -> None:
    """Training is as without it; scores, bank and bundle are those of both looks."""
    outcomes = {}
    for name, look in (("once", None), ("twice", {"image_size": 24})):
        settings: dict[str, Any] = {**tiny_recipe_settings(**train_settings), "hubs": {}}
        settings["model"]["image_encoder"]["second_look"] = look
        recipe = Recipe.parse(settings, place="test")
        outcomes[name] = train(recipe, tmp_path / name, name="tiny", watch=QuietWatch())
    assert_equal_weights(tmp_path / "once", tmp_path / "twice")
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("once", "twice")]
    losses = [[(one["step"], one.get("loss"), one.get("val_loss")) for one in map(json.loads, each)] for each in lines]
    assert losses[0] == losses[1]
    once, twice = (outcomes[name].splits["val"] for name in ("once", "twice"))
    assert np.abs(once.embeddings.images - twice.embeddings.images).max() > 1e-3
    now = embed_source(pocketclip.load(str(tmp_path / "twice")).for_scores(), twice.source)
    np.testing.assert_allclose(now.images, twice.embeddings.images, atol=2e-3)  # the cache is in half precision
    bank = [outcomes[name].model.hubs for name in ("once", "twice")]
    assert all(one is not None for one in bank)
    assert not np.array_equal(bank[0].images, bank[1].images)
    assert np.array_equal(bank[0].captions, bank[1].captions)


@pytest.mark.slow
def test_a_stage_is_measured_with_its_own_towers_whatever_comes_later(tmp_path: Path) -> None:
    early = {**LOW, "num_steps": 6, "evaluate_every": 0.5, "num_workers": 0}
    early["learning_rate"] = {"heads": 0.1, "image_encoder": 0.1}
    scores = []
    for name, last in (("cached", TAIL), ("live", {**TAIL, "cache": None, "num_workers": 0})):
        settings = {**tiny_recipe_settings(), "early_stages": [early], "train": last}
        train(Recipe.parse(settings, place="test"), tmp_path / name, name="tiny", watch=QuietWatch())
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        scores.append([line for line in lines if line["stage"] == "low" and "val_loss" in line])
    cached, live = ([line["val_loss"] for line in each] for each in scores)
    assert len(cached) == 2
    assert cached == live


def test_a_size_that_does_not_suit_the_tower_is_named(tmp_path: Path) -> None:
    settings = tiny_recipe_settings()
    settings["model"] = tiny_model_settings() | {
        "image_encoder": {"kind": "timm", "name": "test_vit", "pretrained": "none", "image_size": 32}
    }
    recipe = Recipe.parse({**settings, "early_stages": [{**LOW, "image_size": 8}]}, place="test")
    with pytest.raises(UserError, match=r"early_stages\.low\.image_size: 8 does not suit the image tower"):
        train(recipe, tmp_path / "run", name="tiny", watch=QuietWatch())


def test_resuming_with_another_recipe_names_the_difference(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(UserError, match=r"begun with another recipe.*batch_size: 4.*batch_size: 6"):
        run(tmp_path / "run", resume=True, batch_size=6)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(UserError, match=r"holds a run already.*--resume"):
        run(tmp_path / "run")


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty"):
        run(tmp_path)


def test_without_val_a_share_is_held_out_and_never_trained_on(tmp_path: Path) -> None:
    settings = tiny_recipe_settings()
    settings["data"] = {"train": "scenes:40,image_size=32", "hold_out": 0.25}
    outcome = train(Recipe.parse(settings, place="x"), tmp_path / "run", name="x", watch=QuietWatch())
    assert outcome.splits["val"].result.num_images == 10
    assert outcome.record.num_images == 30


def test_a_batch_larger_than_the_data_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train.batch_size: 64 is more than the 24 usable images"):
        run(tmp_path / "run", batch_size=64)
    settings: Any = tiny_recipe_settings()
    heads = {"num_steps": 1, "batch_size": 64, "learning_rate": {"heads": 0.1}, "cache": {"views": ["centre"]}}
    with pytest.raises(UserError, match=r"heads_first.batch_size: 64 is more .* set heads_first.batch_size to at most"):
        train(
            Recipe.parse({**settings, "heads_first": heads}, place="x"),
            tmp_path / "heads",
            name="x",
            watch=QuietWatch(),
        )


def test_a_source_with_one_pair_is_refused(tmp_path: Path) -> None:
    settings = tiny_recipe_settings(batch_size=2)
    settings["data"] = {"train": "scenes:1", "val": "scenes:4"}
    with pytest.raises(UserError, match=r"A contrastive batch needs 2"):
        train(Recipe.parse(settings, place="x"), tmp_path / "run", name="x", watch=QuietWatch())


IMAGES_CACHED = {"cache": {"views": ["centre", "flip"]}, "learning_rate": {"heads": 0.001, "text_encoder": 0.001}}


@pytest.mark.parametrize("changes", [{}, {"cache": {"views": ["centre"]}}, IMAGES_CACHED])
def test_broken_pictures_are_left_out_and_named(
    tmp_path: Path, make_folder: Callable[..., Path], changes: dict[str, object]
) -> None:
    folder = make_folder(20)
    (folder / "003.jpg").write_bytes(b"not a picture")
    (folder / "007.jpg").write_bytes(b"")
    settings = tiny_recipe_settings(num_steps=10, **changes)
    settings["data"] = {"train": f"folder:{folder}", "val": "scenes:8", "max_broken_share": 0.1}
    outcome = train(Recipe.parse(settings, place="x"), tmp_path / "run", name="x", watch=QuietWatch())
    assert sorted(Path(message.split(":")[0]).name for message in outcome.record.broken_items) == ["003.jpg", "007.jpg"]
    settings["data"]["max_broken_share"] = 0.0  # type: ignore[index]
    with pytest.raises(UserError, match=r"[12] of 20 items are broken.*data.max_broken_share"):
        train(Recipe.parse(settings, place="x"), tmp_path / "again", name="x", watch=QuietWatch())


def test_an_epoch_over_captions_sees_each_once(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", epoch="captions", num_steps=None, num_epochs=1, batch_size=6)
    assert outcome.record.num_captions == 48
    assert outcome.record.num_steps == 8


def test_several_captions_an_image_train_with_multi_positive(tmp_path: Path) -> None:
    settings = tiny_recipe_settings(captions_per_image=2)
    settings["objective"] = {"kind": "contrastive", "loss": {"kind": "multi_positive"}}
    train(Recipe.parse(settings, place="x"), tmp_path / "run", name="x", watch=QuietWatch())
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["multi_positive"]) for row in rows if "multi_positive" in row)


def test_sigmoid_learns_its_bias(tmp_path: Path) -> None:
    settings = tiny_recipe_settings()
    settings["objective"] = {"kind": "contrastive", "loss": {"kind": "sigmoid"}}
    settings["model"] = {**settings["model"], "logit_bias": -1.1}  # type: ignore[dict-item]
    outcome = train(Recipe.parse(settings, place="x"), tmp_path / "run", name="x", watch=QuietWatch())
    assert float(outcome.model.model.logit_bias.detach()) != pytest.approx(-1.1, abs=1e-6)


@pytest.mark.slow
def test_a_small_model_learns_the_scenes(tmp_path: Path) -> None:
    """Not only steps: retrieval of scenes from held-out combinations gets far above chance."""
    torch.manual_seed(0)
    settings = tiny_recipe_settings(num_steps=400, batch_size=64, checkpoint_every=1000, evaluate_every=None)
    settings["data"] = {
        "train": {"kind": "scenes", "count": 2000, "image_size": 32},
        "val": {"kind": "scenes", "count": 100, "seed": 1, "image_size": 32},
    }
    settings["model"] = {**settings["model"], "embed_dim": 64}  # type: ignore[dict-item]
    outcome = train(Recipe.parse(settings, place="x"), tmp_path / "run", name="x", watch=QuietWatch())
    recall = outcome.splits["val"].result.metrics["text_to_image_recall@10"]
    assert recall.low > 0.2  # type: ignore[union-attr] # chance is 0.1


def test_who_fills_a_cache_is_told_apart_from_who_finds_it_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path / "cache"))
    first, second = (run(tmp_path / name, cache={"views": ["centre"]}).record.seconds for name in ("one", "two"))
    assert 0 < first["caches"] < first["total"]
    assert second["caches"] == 0


@pytest.mark.slow
def test_fewer_samples_more_often_are_as_many_steps_and_samples(tmp_path: Path) -> None:
    """Epochs against unique samples is a matter of settings, in epochs or in steps."""
    seen = {}
    for name, subset, length in (
        ("whole", None, {"num_epochs": 2, "num_steps": None}),
        ("half", {"count": 12}, {"num_epochs": 4, "num_steps": None}),
        ("half_in_steps", {"count": 12}, {"num_steps": 12}),
    ):
        settings = tiny_recipe_settings(**length)
        settings["data"] = {**settings["data"], "subset": subset}  # type: ignore[dict-item]
        chosen = Recipe.parse(settings, place="test")
        outcome = train(chosen, tmp_path / name, name="tiny", watch=QuietWatch())
        seen[name] = (samples_seen(chosen), outcome.record.num_steps)
    assert set(seen.values()) == {(48, 12)}
    assert_equal_weights(tmp_path / "half", tmp_path / "half_in_steps")
    assert any("data.subset: 24 training images, 12 after count" in note for note in outcome.record.notes)


def test_a_bundle_in_half_precision_is_what_is_measured(tmp_path: Path) -> None:
    settings = tiny_recipe_settings() | {"bundle_weights": "float16"}
    outcome = train(Recipe.parse(settings, place="test"), tmp_path, name="tiny", watch=QuietWatch())
    assert {value.dtype for value in weights(tmp_path).values() if value.dtype.kind == "f"} == {np.dtype(np.float16)}
    loaded = pocketclip.load(tmp_path / "bundle").to("cpu", precision="float32")
    scores = Retrieval().run(loaded, TaskData(outcome.splits["val"].source)).metrics
    assert scores == outcome.splits["val"].result.metrics
