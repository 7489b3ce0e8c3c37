"""A suite on one model: loaded once, each image read once for all tasks that ask about it, finished sets kept."""

import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pocketclip.config import digest
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError, unknown_choice
from pocketclip.evaluate.suites import Suite, SuiteSet
from pocketclip.evaluate.suites.layout import Found, OpenedSets, find_set
from pocketclip.evaluate.task import measure
from pocketclip.evaluate.task_data import TaskData
from pocketclip.files import write_atomically
from pocketclip.records import EvalResult, Interval, read_record, write_record
from pocketclip.stages.watch import SILENT, Watch

SUMMARY = "suite.json"
Opened = dict[str, tuple[Found, TaskData]]
"""By the names of sets."""


@dataclass(frozen=True)
class Mean:
    """Of the scores of sets."""

    value: float
    num_sets: int
    of: int
    """As many as there are in the suite."""


@dataclass
class Outcome:
    """What came of a suite."""

    suite: Suite
    model: str
    results: dict[str, EvalResult] = field(default_factory=dict)
    """By the names of the sets, in the suite's order."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why a set was left out."""

    def score(self, one: SuiteSet) -> float:
        """What a mean takes of a measured set."""
        metrics = self.results[one.name].metrics
        return statistics.fmean(_value(metrics[name]) for name in one.score)

    def mean(self, sets: Iterable[SuiteSet]) -> Mean | None:
        """Over those that were measured; None where none was."""
        sets = list(sets)
        there = [self.score(one) for one in sets if one.name in self.results]
        return Mean(statistics.fmean(there), len(there), len(sets)) if there else None

    def means(self) -> dict[str, Mean]:
        """Of every group, and of all."""
        groups = dict.fromkeys(group for one in self.suite.sets for group in one.groups)
        chosen = {group: [one for one in self.suite.sets if group in one.groups] for group in groups}
        if self.suite.average:
            chosen[self.suite.average] = list(self.suite.sets)
        return {name: mean for name, sets in chosen.items() if (mean := self.mean(sets)) is not None}

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        scores = {one.name: self.score(one) for one in self.suite.sets if one.name in self.results}
        return {
            "kind": "suite",
            "suite": self.suite.title,
            "model": self.model,
            "scores": scores,
            "means": {name: asdict(mean) for name, mean in self.means().items()},
            "missing": self.missing,
        }


class SuiteWatch(Watch):
    """Says which of the sets the work is for, and how much time the others will take."""

    def __init__(self, watch: Watch, num_images: Mapping[str, int]) -> None:
        self.watch, self.num_images = watch, num_images
        self.ahead, self.begun, self.read = dict(num_images), time.monotonic(), 0

    def begin(self, name: str) -> None:
        """A set is next."""
        self.number = len(self.num_images) - len(self.ahead) + 1
        self.name, self.started = name, time.monotonic()

    def end(self, said: str, *, read: bool) -> None:
        """The set is done with; `read` tells whether its images were read for it."""
        num_images = self.ahead.pop(self.name)
        self.read += num_images if read else 0
        if not read:
            self.begun += time.monotonic() - self.started
        left = f", {self.time_left()}" if self.ahead else ""
        self.watch.note(f"{self.number} of {len(self.num_images)} sets{left}: {self.name}: {said}")

    def time_left(self) -> str:
        """By how long an image took so far."""
        others = sum(self.ahead.values())
        if not self.read:
            return f"{others:,} images left"
        minutes = (time.monotonic() - self.begun) / self.read * others / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        self.watch.work(f"{self.number} of {len(self.num_images)}, {self.name}: {name}", done, total, broken)

    def step(self, name: str, done: int, total: int, images_per_second: float, metrics: Mapping[str, float]) -> None:
        self.watch.step(f"{self.name}: {name}", done, total, images_per_second, metrics)

    def note(self, message: str) -> None:
        self.watch.note(f"{self.name}: {message}")

    def item(self, message: str) -> None:
        self.watch.item(f"{self.name}: {message}")


def run_suite(suite: Suite, model: Embedder, root: Path, *, out: Path | None = None, watch: Watch = SILENT) -> Outcome:
    """Measure a model on all sets of a suite that lie below a root; what cannot be is named in the outcome.

    With `out`, records are kept there, and a set whose record is there for the same model, data and settings is not
    measured again.

    Raises:
        UserError: none of the sets is there, or none could be measured.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; --root names the one that holds the data sets.")
    outcome = Outcome(suite, model.name)
    opened = _open_all(outcome, root)
    there = list(opened)
    if not opened:
        raise UserError(f"{root}: {_none_there(outcome)}")
    _measure_all(outcome, model, opened, out, watch)
    if not outcome.results:
        raise UserError(f"{root}: none of its sets could be measured; {there[0]}: {outcome.missing[there[0]]}")
    return outcome


def _open_all(outcome: Outcome, root: Path) -> Opened:
    """The sets that are there; the others are noted as missing."""
    opened, sets = Opened(), OpenedSets()
    for one in outcome.suite.sets:
        try:
            found = find_set(one, root)
            if isinstance(found, str):
                outcome.missing[one.name] = found
            else:
                opened[one.name] = found, sets.open(found)
        except UserError as error:
            outcome.missing[one.name] = str(error)
    return opened


def _measure_all(outcome: Outcome, model: Embedder, opened: Opened, out: Path | None, watch: Watch) -> None:
    """Sets that share images follow each other, so that only one set's embeddings are held."""
    kept = _read_kept(out)
    first = {id(data.source): number for number, (_, data) in reversed(list(enumerate(opened.values())))}
    order = sorted(opened, key=lambda name: first[id(opened[name][1].source)])
    watch = SuiteWatch(watch, {name: len(opened[name][1].source) for name in order})
    made_from, results = model.made_from(), dict[str, EvalResult]()
    there = _there(opened, kept, out, made_from)
    _expect(model, {name: own for name, own in opened.items() if name not in there})
    for name in order:
        found, data = opened.pop(name)
        watch.begin(name)
        try:
            key, result = _key(found, data, made_from), there.get(name)
            is_new = result is None
            if result is None:
                result = measure(found.one.make_task(found.settings, name), model, data, watch)
                _check_score(found.one, result)
        except UserError as error:
            outcome.missing[name] = str(error)
            watch.end(f"left out: {error}", read=False)
            continue
        finally:
            data.encoded.forget_all_but([source for _, other in opened.values() for source in other.held])
        results[name] = result
        outcome.results = {one.name: results[one.name] for one in outcome.suite.sets if one.name in results}
        if out is not None and is_new:
            kept[name] = key
            write_record(result, out, name)
            _write_summary(outcome, out, kept)
        said = f"{100 * outcome.score(found.one):.1f}"
        watch.end(said if is_new else f"{said}, as kept", read=is_new)
    if out is not None:
        _write_summary(outcome, out, kept)


def _there(
    opened: Opened, kept: Mapping[str, str], out: Path | None, made_from: Mapping[str, Any]
) -> dict[str, EvalResult]:
    """Records of sets that are done."""
    found: dict[str, EvalResult] = {}
    if out is None:
        return found
    for name in opened:
        with suppress(UserError):  # a set is told of when its turn comes, and a damaged record made again
            if kept.get(name) == _key(*opened[name], made_from) and (result := _kept_record(out, name)) is not None:
                found[name] = result
    return found


def _expect(model: Embedder, opened: Opened) -> None:
    """Say what each set will ask, so that images that several share are read once for all of them."""
    for name, (found, data) in opened.items():
        with suppress(UserError):  # is told when its turn comes
            found.one.make_task(found.settings, name).expect(model, data)


def _check_score(one: SuiteSet, result: EvalResult) -> None:
    for name in one.score:
        if name not in result.metrics:
            raise unknown_choice(f"score of {one.task}", name, result.metrics)


def _key(found: Found, data: TaskData, made_from: Mapping[str, Any]) -> str:
    """Changes with the model, the data and what is asked."""
    sources = [source.fingerprint() for source in data.opened if source is not None]
    return digest([found.one.model_dump(mode="json"), found.settings, sources, made_from])


def _read_kept(out: Path | None) -> dict[str, str]:
    """By each set that is done what its record was made of."""
    if out is None or not (out / SUMMARY).is_file():
        return {}
    try:
        return dict(json.loads((out / SUMMARY).read_text("utf-8"))["made_of"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / SUMMARY}: not what a suite keeps ({error!r}); choose another --out.") from error


def _write_summary(outcome: Outcome, out: Path, kept: Mapping[str, str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / SUMMARY, json.dumps({**outcome.to_json(), "made_of": kept}, indent=2) + "\n")


def _kept_record(out: Path, name: str) -> EvalResult | None:
    path = out / "records" / f"{name}.json"
    record = read_record(path) if path.is_file() else None
    return record if isinstance(record, EvalResult) else None


def _value(metric: Interval | float) -> float:
    return metric.value if isinstance(metric, Interval) else metric


def _none_there(outcome: Outcome) -> str:
    searched = [name for one in outcome.suite.sets if not one.unmeasured for name in one.folders[:1]]
    shown = ", ".join(searched[:8]) + (f" and {len(searched) - 8} more" if len(searched) > 8 else "")
    reasons = [reason for reason in outcome.missing.values() if not reason.startswith("no folder")]
    return f"holds none of the sets of {outcome.suite.title}; folders looked for: {shown}." + (
        f" {reasons[0]}" if reasons and len(outcome.missing) == 1 else ""
    )
