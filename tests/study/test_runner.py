"""A study from file to table on tiny runs: resuming, failures, interruption, the record and its page."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import QuietWatch, tiny_recipe_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.errors import Interrupted, UserError
from pocketclip.evaluate.comparison import compare
from pocketclip.evaluate.ranks import Ranks
from pocketclip.evaluate.sides import kept_items, same_questions
from pocketclip.evaluate.statistics import resampled_ratios
from pocketclip.evaluate.tasks import Retrieval
from pocketclip.evaluate.tasks.retrieval import point_metrics
from pocketclip.features.encode import Embeddings
from pocketclip.hubs import Hubs, LogSumExp
from pocketclip.recipe import Recipe, dump_recipe
from pocketclip.records import Provenance, RunRecord, write_record
from pocketclip.study import runs as runs_module
from pocketclip.study.grid import Study, load_study
from pocketclip.study.record import DRAW_UNIT, NUM_DRAWS, StudyRecord
from pocketclip.study.runner import run_study
from pocketclip.study.table import score_columns, score_rows, size_rows, study_markdown, study_notes

ROWS = [{"name": "plain"}, {"name": "fast heads", "set": {"train.learning_rate.heads": 0.01}}]


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """A function that writes and loads a tiny study."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(tiny_recipe_settings(num_steps=2)))

    def make(rows: list[dict[str, Any]] = ROWS, *, changes: tuple[str, ...] = (), **keys: Any) -> Study:
        path = tmp_path / "tiny.study.yaml"
        path.write_text(json.dumps({"base": "tiny.yaml", "rows": rows, "seeds": [0, 1], **keys}))
        return load_study(str(path), changes)

    return make


def carry_out(study: Study, folder: Path, **options: Any) -> tuple[StudyRecord, list[str]]:
    watch = QuietWatch()
    return run_study(study, folder, watch=watch, device="cpu", **options), watch.notes


class QuickTraining:
    """Stands for `run.train`: leaves the records and embeddings of a run in no time."""

    def __init__(self, model: PretrainedModel) -> None:
        self.model = model
        self.names: list[str] = []
        self.problems: dict[str, Exception] = {}
        self.hubs: Hubs | None = None

    def __call__(self, recipe: Recipe, folder: Path, *, name: str, **options: Any) -> SimpleNamespace:
        self.names.append(name)
        folder.mkdir(parents=True, exist_ok=True)
        if name in self.problems:
            raise self.problems[name]
        (folder / "recipe.yaml").write_text(dump_recipe(recipe))
        random = np.random.default_rng([recipe.seed, round(1e4 * recipe.train.learning_rate.heads)])  # type: ignore[operator]
        images, texts = (random.normal(size=(count, 4)).astype(np.float32) for count in (8, 16))
        owners = np.repeat(np.arange(8), 2)
        embeddings = Embeddings(images, texts, owners, np.arange(8), [], hubs=self.hubs)
        source = open_source({"kind": "scenes", "count": 8})
        result = Retrieval().result(embeddings, source, split="val")
        record = RunRecord(
            name=name, seed=recipe.seed, recipe_hash="ab", num_steps=2, num_images=24, num_captions=48,
            seconds={"total": 120.0},
        )  # fmt: skip
        write_record(result, folder, "retrieval_val")
        write_record(record, folder, "run")
        val = SimpleNamespace(result=result, embeddings=embeddings, source=source)
        return SimpleNamespace(folder=folder, splits={"val": val}, model=self.model)


@pytest.fixture
def training(tiny_pretrained: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> QuickTraining:
    """In the place of real training."""
    quick = QuickTraining(tiny_pretrained)
    monkeypatch.setattr(runs_module, "train", quick)
    return quick


def test_a_study_trains_every_row_with_every_seed_and_compares_them(
    study: Callable[..., Study], tmp_path: Path, training: QuickTraining
) -> None:
    metrics = ["text_to_image_recall@1", "mean_recall", "text_to_image_median_rank"]
    folder = tmp_path / "out"
    record, _ = carry_out(study(metrics=metrics), folder, dollars_per_hour=36.0)
    assert training.names == ["plain, seed 0", "fast heads, seed 0", "plain, seed 1", "fast heads, seed 1"]
    first, second = record.rows
    assert (record.num_finished, record.num_runs, record.num_images, record.num_captions) == (4, 4, 8, 16)
    assert (first.samples_seen, first.folder, second.folder) == (8, "plain", "fast-heads")
    assert first.parameters["parameters_total"] > first.parameters["parameters_image"] > 0
    for row in record.rows:
        for name, measure in row.metrics.items():
            assert measure.mean.value == pytest.approx(np.mean([run.metrics[name] for run in row.runs]))
            assert measure.mean.low <= measure.mean.value <= measure.mean.high
    assert all(measure.difference is None for measure in first.metrics.values())
    for name, measure in second.metrics.items():
        assert measure.difference is not None
        assert measure.difference.value == pytest.approx(measure.mean.value - first.metrics[name].mean.value)
    assert first.dollars == pytest.approx(1.2)
    stored = np.load(folder / "plain" / "seed-1" / "ranks_val.npz")
    ranks = [stored[name].astype(np.int64) for name in ("text_to_image", "image_to_text", "text_images")]
    assert point_metrics(Ranks(*ranks)).items() <= first.runs[1].metrics.items()
    rows = [kept_items(str(folder / row.folder)) for row in (second, first)]
    ((ours, theirs),) = same_questions(*rows, None)
    found = compare(ours, theirs)
    assert (found.a.seeds, found.b.seeds) == ([0, 1], [0, 1])
    for name, measure in second.metrics.items():
        if measure.difference is not None and name in found.metrics:
            assert found.metrics[name].difference.model_dump() == pytest.approx(measure.difference.model_dump())
    for row in record.rows:
        draws = np.array(row.draws.split(), float) * DRAW_UNIT
        assert len(draws) == NUM_DRAWS
        assert draws == pytest.approx(_draws_of(folder / row.folder), abs=DRAW_UNIT)
    _check_files(record, folder)
    again, notes = carry_out(study(metrics=metrics), folder, resume=True)
    assert len(training.names) == 4
    assert notes == ["4 of 4 runs were finished before"]
    assert again.rows[1].metrics == second.metrics


def _draws_of(row: Path) -> Any:
    """Of text to image R@1, from the ranks that the row's runs keep."""
    stored = [np.load(row / f"seed-{seed}" / "ranks_val.npz") for seed in (0, 1)]
    owners = stored[0]["text_images"]
    hits = np.mean([np.bincount(owners, own["text_to_image"] < 1) for own in stored], axis=0)
    shares = resampled_ratios([{"": (hits, np.bincount(owners).astype(float))}], {})[""]
    return shares[:NUM_DRAWS] - shares.mean()


def _stored(folder: Path) -> StudyRecord:
    values = json.loads((folder / "study.json").read_text())
    provenance = {key: values.pop(key) for key in Provenance.model_fields}
    return StudyRecord.parse({**values, "provenance": provenance}, place="study.json")


def _check_files(record: StudyRecord, folder: Path) -> None:
    values = json.loads((folder / "study.json").read_text())
    assert {"kind", "command", "hardware", "date", "code_version"} <= values.keys()
    assert _stored(folder) == record
    assert (folder / "study.md").read_text() == study_markdown(record)
    assert score_columns(record) == ["", "T→I R@1", "mean recall", "T→I median rank"]
    lines = score_rows(record)[1][1].split("\n")
    assert len(lines) in (2, 3, 4)
    assert lines[-1].startswith(("[", "+", "-"))
    total = record.rows[0].parameters["parameters_total"]
    assert size_rows(record)[0][3:] == [f"{total / 1e6:.2f} M", "2.0", "1.2000"]
    assert any("Every row sees 8 samples." in note for note in study_notes(record))


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_go_on(
    study: Callable[..., Study], tmp_path: Path, training: QuickTraining
) -> None:
    training.problems = {
        "plain, seed 0": RuntimeError("out of\nmemory"),
        "fast heads, seed 1": UserError("the disk is full"),
    }
    folder = tmp_path / "out"
    record, _ = carry_out(study(), folder)
    assert record.num_finished == 2
    assert record.failed["fast heads, seed 1"] == "the disk is full"
    assert record.failed["plain, seed 0"].startswith("RuntimeError: out of (all of it in")
    assert "Traceback" in (folder / "plain" / "seed-0" / "error.txt").read_text()
    measure = record.rows[1].metrics["text_to_image_recall@1"]
    assert measure.difference is None  # no seed in common
    assert score_rows(record)[0][0] == "plain (1 of 2 seeds)"
    training.problems = {}
    again, _ = carry_out(study(), folder, resume=True)
    assert (again.num_finished, again.failed) == (4, {})
    assert not (folder / "plain" / "seed-0" / "error.txt").exists()


@pytest.mark.slow
def test_a_stopped_study_has_a_table_of_what_is_finished(
    study: Callable[..., Study], tmp_path: Path, training: QuickTraining
) -> None:
    training.problems = {"fast heads, seed 0": Interrupted("Stopped.")}
    with pytest.raises(Interrupted):
        carry_out(study(), tmp_path / "out")
    record = _stored(tmp_path / "out")
    assert (record.num_finished, record.num_runs) == (1, 4)
    assert record.rows[1].metrics == {}
    assert score_rows(record)[1][0] == "fast heads (0 of 2 seeds)"


@pytest.mark.slow
def test_a_study_compares_corrected_scores_where_all_runs_have_a_bank(
    study: Callable[..., Study], tmp_path: Path, training: QuickTraining
) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 4))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    training.hubs = Hubs(LogSumExp(), rows, rows, np.zeros(0, np.int64), "x")
    metrics = ["mean_recall", "corrected_mean_recall", "corrected_text_to_image_recall@5"]
    record, _ = carry_out(study(metrics=metrics), tmp_path / "out")
    for row in record.rows:
        for measure in row.metrics.values():
            assert measure.mean.low <= measure.mean.value <= measure.mean.high
    assert record.rows[1].metrics["corrected_mean_recall"].difference is not None
    assert score_columns(record)[3] == "T→I R@5 corrected"


def test_a_folder_of_something_else_or_of_another_recipe_is_refused(
    study: Callable[..., Study], tmp_path: Path, training: QuickTraining
) -> None:
    folder = tmp_path / "out"
    one = {"rows": ROWS[:1], "seeds": [0]}
    carry_out(study(**one), folder)
    with pytest.raises(UserError, match=r"holds a study already. Go on with --resume"):
        carry_out(study(**one), folder)
    with pytest.raises(UserError, match=r"plain.seed-0: was made with another recipe"):
        carry_out(study(**one, changes=("train.max_grad_norm=0.5",)), folder, resume=True)
    with pytest.raises(UserError, match="is not empty and holds no study"):
        carry_out(study(**one), tmp_path)
    (tmp_path / "towers").mkdir()
    (tmp_path / "towers" / "study.yaml").write_text("towers: {a: {name: x}}\n")
    with pytest.raises(UserError, match="holds a study of towers; choose another --out"):
        carry_out(study(**one), tmp_path / "towers", resume=True)
    told = r"metrics: recall was not measured on val\. Did you mean 'mean_recall'\? Known: image_to_text_mean_average"
    with pytest.raises(UserError, match=told):
        carry_out(study(**one, metrics=["recall"]), folder, resume=True)
    with pytest.raises(UserError, match=r"metrics: corrected_mean_recall was not measured on val"):
        carry_out(study(**one, metrics=["corrected_mean_recall"]), folder, resume=True)
    (folder / "plain" / "seed-0" / "ranks_val.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match=r"the run is damaged .*; delete the folder and resume"):
        carry_out(study(**one), folder, resume=True)


@pytest.mark.slow
def test_runs_at_once_give_the_same_table(study: Callable[..., Study], tmp_path: Path) -> None:
    alone, _ = carry_out(study(), tmp_path / "alone")
    together, _ = carry_out(study(), tmp_path / "together", num_jobs=2)
    assert [row.metrics.keys() for row in together.rows] == [row.metrics.keys() for row in alone.rows]
    assert together.num_finished == 4
    assert "2 at a time" in " ".join(study_notes(together))


@pytest.mark.slow
@pytest.mark.parametrize(
    "left",
    [
        *(pytest.param(left, marks=pytest.mark.slow) for left in ([], ["plain/seed-0/recipe.yaml"])),
        ["plain/seed-0/recipe.yaml", "plain/seed-0/data.npz"],
    ],
)
def test_a_study_that_came_to_no_step_is_begun_again(
    study: Callable[..., Study], tmp_path: Path, training: QuickTraining, left: list[str]
) -> None:
    folder = tmp_path / "out"
    for name in ["study.yaml", ".study.yaml.k3_a0z9x", *left]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("seed: 7")
    record, notes = carry_out(study(), folder)
    assert record.num_finished == 4
    assert f"{folder}: holds a study that was stopped before its first step; it is begun again." in notes
