"""Who scored and costs what: records of many places, joined by the model's name."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pocketclip.errors import UserError
from pocketclip.evaluate.items import Items, read_items
from pocketclip.evaluate.sides import Question, asked_in, item_files, question_of
from pocketclip.files import no_such
from pocketclip.records import CostResult, EvalResult, Record, RunRecord, read_records, record_of

AnyRecord = TypeVar("AnyRecord", CostResult, EvalResult)


@dataclass
class Standing:
    """A model with its records."""

    name: str
    evaluations: dict[Question, EvalResult] = field(default_factory=dict)
    items: dict[Question, Items] = field(default_factory=dict)
    cost: CostResult | None = None


@dataclass
class Gathered:
    """All models, in the order in which they were met."""

    models: dict[str, Standing] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    places: dict[Path, str] = field(default_factory=dict)
    """Run folders, by which their models may be named elsewhere."""
    num_older: int = 0
    num_passed_over: int = 0

    def add(self, record: Record, name: str) -> None:
        """Join a record to its model; of two for one thing the newer one counts."""
        if isinstance(record, RunRecord):
            return
        own = self.models.setdefault(name, Standing(name))
        if isinstance(record, CostResult):
            own.cost = self._newer(own.cost, record)
        else:
            question = asked_in(record)
            own.evaluations[question] = self._newer(own.evaluations.get(question), record)

    def _newer(self, old: AnyRecord | None, new: AnyRecord) -> AnyRecord:
        if old is None:
            return new
        self.num_older += 1
        return max(old, new, key=lambda record: record.provenance.date)

    def name_of(self, text: str) -> str:
        """The name of a model that was typed as `text`: of a run that lies there, the run's."""
        return self.places.get(Path(text).absolute(), text.rstrip("/"))


def gather(places: Sequence[Path]) -> Gathered:
    """Read run folders, folders of records or of runs, and files of results.

    Raises:
        UserError: a place is not there, is damaged, or holds nothing that was measured.
    """
    found = Gathered()
    for place in places:
        if not place.exists():
            raise no_such("folder or file of results", place)
    folders = [place for place in places if place.is_dir()]
    runs = [run for folder in folders for run in _runs_in(folder)]
    names = _run_names(runs)
    found.places = {run.absolute(): names[run] for run in runs} | {
        (run / "bundle").absolute(): names[run] for run in runs
    }
    for run in runs:
        for record in read_records(run):
            found.add(record, names[run])
    for file in _result_files(places):
        for values in _objects(file):
            if isinstance(values, dict) and values.get("kind") in ("evaluation", "cost"):
                record = record_of(values, place=str(file))
                assert not isinstance(record, RunRecord)
                typed = record.name if isinstance(record, CostResult) else record.model
                found.add(record, found.name_of(typed) if typed else file.stem)
            else:
                found.num_passed_over += 1
    for folder in folders:
        for path in item_files(folder):
            items = read_items(path)
            typed = items.record.model
            name = found.name_of(typed) if typed else found.places.get(path.parent.absolute(), path.stem)
            found.models.setdefault(name, Standing(name)).items[question_of(items)] = items
            found.models[name].evaluations.setdefault(question_of(items), items.record)
    return _checked(found, places)


def _checked(found: Gathered, places: Sequence[Path]) -> Gathered:
    found.models = {name: own for name, own in found.models.items() if own.evaluations or own.cost is not None}
    if not any(own.evaluations for own in found.models.values()):
        first = places[0]
        raise UserError(
            f"{', '.join(map(str, places))}: no results here; pocketclip evaluate MODEL --data SOURCE --json > "
            f"{first / 'mine.json' if first.is_dir() else 'mine.json'} writes some."
        )
    if found.num_older:
        found.notes.append(f"{found.num_older:,} older records of the same model and data are not shown")
    if found.num_passed_over:
        found.notes.append(f"{found.num_passed_over:,} JSON objects that are no results of a model passed over")
    return found


def _runs_in(folder: Path) -> list[Path]:
    """The folder where it is one of a run, else the runs below it."""
    if any((folder / "records").glob("*.json")):
        return [folder]
    return sorted({path.parent.parent for path in folder.rglob("records/*.json")})


def _run_names(runs: Sequence[Path]) -> dict[Path, str]:
    """A name for each run, with its folder where two would be called the same."""
    called = {}
    for run in runs:
        record = next((own for own in read_records(run) if isinstance(own, RunRecord)), None)
        called[run] = run.name if record is None else record.name
    counts = Counter(called.values())
    return {run: f"{name}, {run}" if counts[name] > 1 else name for run, name in called.items()}


def _result_files(places: Sequence[Path]) -> list[Path]:
    """Files of results: those that are named, and those right in a folder that is no run."""
    files: list[Path] = []
    for place in places:
        if place.is_file():
            files.append(place)
        elif not any((place / "records").glob("*.json")):
            files += sorted(path for path in place.iterdir() if path.suffix in (".json", ".jsonl"))
    return files


def _objects(file: Path) -> Iterator[Any]:
    """The JSON objects of a file: one, a list of them, or one a line."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}).") from error
    try:
        values = json.loads(text)
    except ValueError:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UserError(f"{file}, line {number}: not JSON ({error}).") from error
        return
    yield from values if isinstance(values, list) else [values]
