"""Records of many places meet at their model's name."""

import json
from pathlib import Path

import pytest

from example_pages import evaluation, make_results, make_run, measured, weighed
from pocketclip.errors import UserError
from pocketclip.records import Provenance
from pocketclip.report.standing import gather

OLD = Provenance(hardware="a toaster", code_version="1", date="2025-01-01", command="pocketclip")


def test_a_run_folder_gives_its_model_with_scores_and_cost(tmp_path: Path) -> None:
    found = gather([make_run(tmp_path / "one", test=True)])
    (model,) = found.models.values()
    assert model.name == "mine"
    assert {question[2] for question in model.evaluations} == {"val", "test"}
    assert model.cost is not None


def test_a_result_joins_the_run_that_it_was_measured_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs" / "one")
    results = make_results(tmp_path / "results", *(measured(name, 0.5) for name in ("runs/one", "runs/one/bundle/")))
    found = gather([run, results])
    assert list(found.models) == ["mine"]
    assert len(found.models["mine"].evaluations) == 2
    assert found.notes == ["1 older records of the same model and data are not shown"]


def test_runs_below_a_folder_are_found_and_namesakes_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_run(tmp_path / "row" / name)
    assert list(gather([tmp_path]).models) == [f"mine, {tmp_path / 'row' / name}" for name in ("one", "two")]


@pytest.mark.parametrize("form", ["lines", "list", "object"])
def test_results_are_lines_lists_or_objects(tmp_path: Path, form: str) -> None:
    values = [measured("a", 0.5).to_json(), weighed("a", 10, 1.0).to_json()]
    if form == "object":
        (tmp_path / "cost.json").write_text(json.dumps(values.pop(), indent=2))
    text = (
        "\n".join(map(json.dumps, values)) if form == "lines" else json.dumps(values if form == "list" else values[0])
    )
    (tmp_path / "x.json").write_text(text)
    (model,) = gather([tmp_path]).models.values()
    assert (model.name, len(model.evaluations), model.cost is not None) == ("a", 1, True)


def test_of_two_records_the_newer_one_counts(tmp_path: Path) -> None:
    new, old = measured("a", 0.5), measured("a", 0.9, provenance=OLD)
    for order in ((new, old), (old, new)):
        (model,) = gather([make_results(tmp_path, *order)]).models.values()
        assert [*model.evaluations.values()] == [new]


def test_other_json_is_passed_over_and_counted(tmp_path: Path) -> None:
    make_results(tmp_path, measured("a", 0.5))
    (tmp_path / "speed.json").write_text('{"kind": "benchmark", "ratio": 2}')
    assert gather([tmp_path]).notes == ["1 JSON objects that are no results of a model passed over"]


def test_a_record_without_a_model_is_called_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "theirs.json").write_text(json.dumps(evaluation("all", 0.5).to_json()))
    assert list(gather([tmp_path / "theirs.json"]).models) == ["theirs"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such folder or file of results"),
        ("", "no results here; pocketclip evaluate MODEL --data SOURCE --json >"),
        ("{}\n{", "line 2: not JSON"),
        ('{"kind": "evaluation"}', "x.json: "),
        ('{"kind": "run"}', "no results here"),
    ],
)
def test_what_is_no_result_is_one_clear_line(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as caught:
        gather([path])
    assert reason in str(caught.value)
