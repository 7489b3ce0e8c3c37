"""How long one picture and one sentence take each model of a study, measured when its runs are over.

Each distinct model is timed once, whatever its weights are, by one process, so that no two timings disturb each other.
What was measured stays in `OUT/latency.json`.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.config import Config, digest
from pocketclip.cost.weigh import measure_latency
from pocketclip.errors import UserError, first_line
from pocketclip.files import write_atomically
from pocketclip.records import Provenance
from pocketclip.stages.watch import Watch
from pocketclip.study.cell_recipes import Row
from pocketclip.study.claims import Claims, Failed
from pocketclip.study.runs import FinishedRun

FILE = "latency.json"
SECONDS = 0.3
"""Of each of the two timings of a model."""
CLAIM, PAUSE = "latency", 0.5
"""Of the process that measures, and seconds between two looks of one that waits for it."""
OF_TRAINING = frozenset(
    ("pretrained", "inherit", "bundle", "frozen_layers", "pair_head", "temperature", "learn_temperature", "logit_bias",
     "dropout", "input_dropout", "drop_path_rate")
)  # fmt: skip
"""Keys of a model's settings without which it takes as long."""


class Timing(Config):
    """What was measured of a model."""

    row: str
    """The first of those that have it, for people."""
    latency_ms: float
    measured: Provenance


class Latencies:
    """Those of the models of one study's folder; none at all where they are not wanted."""

    def __init__(self, folder: Path, device: str, *, wanted: bool) -> None:
        self.file, self.device, self.wanted = folder / FILE, device, wanted
        self._keys: dict[str, str] = {}
        self._given_up: set[str] = set()
        self._known = self._read()

    def of(self, row: Row) -> float | None:
        """Milliseconds of a row's model, where it was measured."""
        timing = self._known.get(self._key(row)) if self._known else None
        return None if timing is None else timing.latency_ms

    def measure(
        self, rows: Sequence[Row], finished: Mapping[str, Sequence[FinishedRun]], claims: Claims, watch: Watch
    ) -> None:
        """Time each model that is not known yet and of which a run left a bundle, or wait for who does.

        A model that cannot be timed is noted and left out.
        """
        claims.try_again(CLAIM)
        while self._missing(rows, finished):
            claim = claims.take(CLAIM, mark=str(len(self._known)))
            if isinstance(claim, Failed):
                watch.note(f"latency was not measured: {claim.reason}")
                return
            if claim is None:
                time.sleep(PAUSE)
            self._known = self._read()  # what another process measured meanwhile
            if claim is None:
                continue
            try:
                with claim.kept():
                    self._measure_all(self._missing(rows, finished), watch)
            finally:
                claim.give_back()

    def notes(self) -> list[str]:
        """What a reader of the numbers should know of how they were measured."""
        timings = self._known.values()
        machines = sorted({timing.measured.hardware for timing in timings})
        notes = [f"latency was measured on several machines: {'; '.join(machines)}"] if len(machines) > 1 else []
        if busy := [timing.row for timing in timings if timing.measured.is_busy]:
            listed = ", ".join(f"'{row}'" for row in busy)
            notes.append(f"latency of {listed} was measured beside other work; delete {FILE} and resume to do it again")
        return notes

    def _measure_all(self, missing: Mapping[str, tuple[str, Path]], watch: Watch) -> None:
        for number, (key, (row, bundle)) in enumerate(missing.items()):
            watch.work("timing models", number, len(missing))
            try:
                self._known[key] = self._timed(row, bundle)
            except Exception as error:  # the study is done, whatever befalls this
                self._given_up.add(key)
                watch.note(f"latency of '{row}' was not measured ({type(error).__name__}: {first_line(error)})")
                continue
            values = {key: timing.model_dump(mode="json") for key, timing in self._known.items()}
            write_atomically(self.file, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
        watch.work("timing models", len(missing), len(missing))

    def _timed(self, row: str, bundle: Path) -> Timing:
        loaded = PretrainedModel.from_pretrained(bundle)
        size, length = loaded.preprocess.image_size, loaded.tokenizer.context_length
        latency_ms, measured = measure_latency(
            loaded.model, image_size=size, context_length=length, device=self.device, seconds=SECONDS
        )
        return Timing(row=row, latency_ms=latency_ms, measured=measured)

    def _missing(
        self, rows: Sequence[Row], finished: Mapping[str, Sequence[FinishedRun]]
    ) -> dict[str, tuple[str, Path]]:
        """By model, the first row with a run of it that left a bundle, and the bundle."""
        found: dict[str, tuple[str, Path]] = {}
        for row in rows if self.wanted else ():
            bundles = (run.folder / "bundle" for run in finished[row.name])
            bundle = next((bundle for bundle in bundles if (bundle / "config.json").is_file()), None)
            if bundle is None:  # a simulated run leaves none
                continue
            key = self._key(row)
            if key not in self._known and key not in self._given_up:
                found.setdefault(key, (row.name, bundle))
        return found

    def _key(self, row: Row) -> str:
        if row.name not in self._keys:
            self._keys[row.name] = digest(_without(row.recipe.model.model_dump(mode="json"), OF_TRAINING))
        return self._keys[row.name]

    def _read(self) -> dict[str, Timing]:
        if not self.wanted or not self.file.is_file():
            return {}
        try:
            values = dict(json.loads(self.file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise UserError(f"{self.file}: damaged ({error}); delete it, and it is measured anew.") from error
        return {key: Timing.parse(timing, place=f"{self.file}: {key}") for key, timing in values.items()}


def _without(values: Any, keys: frozenset[str]) -> Any:
    """Settings without some keys, at any depth."""
    if isinstance(values, dict):
        return {key: _without(value, keys) for key, value in values.items() if key not in keys}
    return values
