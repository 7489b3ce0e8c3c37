"""Records: written, read back, and flat in JSON."""

import json
import subprocess
from pathlib import Path

import pytest

from pocketclip import records
from pocketclip.errors import UserError
from pocketclip.hardware import Load, available_cores
from pocketclip.records import (
    CostResult,
    EvalResult,
    Interval,
    Provenance,
    Record,
    RunRecord,
    read_records,
    write_record,
)

HERE = Provenance(hardware="a machine", code_version="1", date="2026-01-01T00:00:00+00:00", command="pocketclip")
EVALUATION = EvalResult(
    task="retrieval", dataset="scenes:8", split="test", num_images=8, num_captions=16, seed=3, recipe_hash="ab",
    metrics={"text_to_image_recall@1": Interval(value=0.5, low=0.4, high=0.6), "text_to_image_median_rank": 2.0},
    notes=["a note"], provenance=HERE,
)  # fmt: skip
COST = CostResult(
    name="tiny", metrics={"parameters_total": 7, "latency_ms_p50": 1.5, "device": "cpu", "energy": None},
    provenance=HERE,
)  # fmt: skip
RUN = RunRecord(
    name="tiny", seed=1, recipe_hash="cd", num_steps=4, num_images=8, num_captions=None, broken_items=["x: empty"],
    seconds={"train": 2.0}, metrics={"val_loss": 1.0}, price_dollars=0.1, provenance=HERE,
)  # fmt: skip


@pytest.mark.parametrize("record", [EVALUATION, COST, RUN], ids=["evaluation", "cost", "run"])
def test_every_kind_of_record_is_read_as_it_was_written(record: Record, tmp_path: Path) -> None:
    path = write_record(record, tmp_path, "number-1")
    assert path == tmp_path / "records" / "number-1.json"
    assert read_records(tmp_path) == [record]


def test_records_come_in_the_order_of_their_file_names(tmp_path: Path) -> None:
    for name, record in (("c", COST), ("a", RUN), ("b", EVALUATION)):
        write_record(record, tmp_path, name)
    assert read_records(tmp_path) == [RUN, EVALUATION, COST]


def test_a_folder_without_records_has_none(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    write_record(RUN, tmp_path, "x")
    write_record(COST, tmp_path, "x")
    assert read_records(tmp_path) == [COST]
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["x.json"]


def test_metrics_stand_at_the_top_of_the_json_with_their_intervals() -> None:
    values = json.loads(json.dumps(EVALUATION.to_json()))
    assert values["text_to_image_recall@1"] == {"value": 0.5, "low": 0.4, "high": 0.6}
    assert values["text_to_image_median_rank"] == 2.0
    assert (values["kind"], values["num_captions"], values["seed"]) == ("evaluation", 16, 3)
    assert "metrics" not in values
    assert values["provenance"]["hardware"] == "a machine"


def test_costs_stand_at_the_top_of_the_json() -> None:
    values = COST.to_json()
    assert (values["parameters_total"], values["energy"], values["device"]) == (7, None, "cpu")


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"3", b"{}", b'{"kind": "poem"}', b'{"kind": ["cost"]}', b"\xff\xfe", b""],
)
def test_a_file_that_is_no_record_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "bad.json").write_bytes(content)
    with pytest.raises(UserError, match=r"records/bad\.json: not a pocketclip record"):
        read_records(tmp_path)


def test_a_record_that_lacks_a_field_is_named_with_the_field(tmp_path: Path) -> None:
    path = write_record(EVALUATION, tmp_path, "x")
    values = json.loads(path.read_text())
    del values["num_images"]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"x\.json: num_images: is required"):
        read_records(tmp_path)


def test_an_interval_is_shown_in_percent() -> None:
    assert Interval(value=0.1857, low=0.17, high=0.2).percent() == "18.6 [17.0, 20.0]"


def test_a_number_says_where_and_when_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/pocketclip", "train", "tiny"])
    made = EvalResult(task="t", dataset="d", split="s", num_images=1, num_captions=1, metrics={}).provenance
    assert made.command == "pocketclip train tiny"
    assert made.hardware
    assert made.code_version.startswith("0.")
    assert made.date.endswith("+00:00")


def test_the_code_version_names_the_commit_of_a_checkout() -> None:
    root = Path(records.__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    tags = subprocess.run(["git", "-C", root, "tag"], capture_output=True, text=True, check=True).stdout
    described = records.code_version().partition("+")[2].removesuffix("-dirty")
    assert head.startswith(described) or tags


def test_the_code_version_needs_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    records.code_version.cache_clear()
    try:
        assert "+" not in records.code_version()
    finally:
        records.code_version.cache_clear()


BUSY = Provenance(**{**vars(HERE), "other_load": 1.3, "num_cores": 2})
QUIET = Provenance(**{**vars(HERE), "other_load": 0.05, "num_cores": 2})


def test_the_load_of_other_work_stands_in_the_record_and_beside_the_machine(tmp_path: Path) -> None:
    write_record(COST.model_copy(update={"provenance": BUSY}), tmp_path, "cost")
    (read,) = read_records(tmp_path)
    assert read.provenance == BUSY
    assert read.provenance.is_busy
    assert read.provenance.machine == "a machine, measured while 1.3 of 2 cores were busy with other work"
    assert (QUIET.machine, HERE.machine) == ("a machine", "a machine")


def test_records_from_before_loads_were_noted_are_read(tmp_path: Path) -> None:
    path = write_record(RUN, tmp_path, "run")
    values = json.loads(path.read_text())
    for key in ("other_load", "num_cores"):
        del values["provenance"][key]
    path.write_text(json.dumps(values))
    assert read_records(tmp_path) == [RUN]


def test_the_load_is_the_average_since_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load()
    monkeypatch.setattr(load, "average", lambda: 0.9)
    found = Provenance.under(load)
    assert (found.other_load, found.num_cores) == (0.9, available_cores())
