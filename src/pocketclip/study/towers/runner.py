"""Carries out a study of towers: each is measured part by part, and its row is kept as soon as it is there."""

import json
import urllib.error
import urllib.request
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pocketclip.data import Source
from pocketclip.errors import UserError, require
from pocketclip.evaluate.task import TaskData
from pocketclip.evaluate.tower import matched_classes
from pocketclip.files import holds_only, write_atomically
from pocketclip.hardware import Load, available_cores
from pocketclip.records import Provenance
from pocketclip.stages.watch import Watch
from pocketclip.study.record import SETTINGS, make_folder
from pocketclip.study.towers.config import TowerConfig, TowerStudy, dump_settings, file_name
from pocketclip.study.towers.measure import measure_cost, measure_score, measure_training
from pocketclip.study.towers.page import write_towers_page
from pocketclip.study.towers.process import Work, in_a_process
from pocketclip.study.towers.record import PARTS, TowerResult, TowersRecord, read_row
from pocketclip.study.towers.table import PART_NAMES, towers_markdown

ROWS = "towers"
"""In the study's folder, where each tower's row is kept."""
HUB_SECONDS = 5.0


def run_tower_study(study: TowerStudy, folder: Path, *, watch: Watch, resume: bool = False) -> TowersRecord:
    """Measure what is not measured yet, one tower after the other, and write the table after each.

    A part of a tower that cannot be measured is left out with its reason, and the study goes on; with `resume` it
    keeps what was measured and tries the others again.

    Raises:
        UserError: anything the user can fix before the first tower.
        Interrupted: Ctrl-C or SIGTERM; `resume` goes on.
    """
    work = _Towers(study, folder, watch)
    goes_on = resume or holds_only(folder, SETTINGS, below=True)
    make_folder(folder, dump_settings(study), towers=True, goes_on=goes_on)
    (folder / ROWS).mkdir(exist_ok=True)
    rows = {name: work.kept_row(name, tower) for name, tower in study.config.chosen.items()}
    todo = {name: [part for part in work.parts if getattr(row, part) is None] for name, row in rows.items()}
    work.num_parts = sum(map(len, todo.values()))
    if done := sum(not parts for parts in todo.values()):
        watch.note(f"{done} of {len(rows)} towers were measured before")
    for number, (name, parts) in enumerate(todo.items(), start=1):
        if parts:
            rows[name] = work.measure(rows[name], parts)
            watch.note("; ".join([f"{number} of {len(rows)}: {name}", *_told(rows[name], parts)]))
        record = _write(work, list(rows.values())[:number])
    return record


class _Towers:
    """What all towers of a study share, and how far it is."""

    def __init__(self, study: TowerStudy, folder: Path, watch: Watch) -> None:
        self.study, self.folder, self.watch = study, folder, watch
        config = study.config
        self.data, self.train_data = (
            None if source is None else source.open() for source in (config.data, config.train_data)
        )
        if self.data is not None:
            matched_classes(*TaskData(self.data, train=self.train_data).images)  # an error now is better than later
        self.num_parts, self._num_done, self._shown = 0, 0, -1

    @property
    def parts(self) -> list[str]:
        """Of each tower."""
        return [part for part in PARTS if part != "score" or self.data is not None]

    def kept_row(self, name: str, tower: TowerConfig) -> TowerResult:
        """What an earlier try measured of a tower, or an empty row.

        Raises:
            UserError: it was measured in another way.
        """
        empty = TowerResult(
            name=name,
            tower=tower,
            measuring=self.study.config.measuring,
            data=_name(self.data),
            train_data=_name(self.train_data),
            provenance=Provenance(),
        )
        path = self.folder / ROWS / file_name(name)
        kept = read_row(path)
        if kept is None:
            return empty
        same = {"name", "tower", "measuring"} | (set() if kept.score is None else {"data", "train_data"})
        if kept.model_dump(include=same) != empty.model_dump(include=same):
            raise UserError(
                f"{path}: was measured with other settings than '{name}' has now; delete the file, or choose another "
                "--out."
            )
        return kept.model_copy(update={"data": empty.data, "train_data": empty.train_data})

    def measure(self, row: TowerResult, parts: list[str]) -> TowerResult:
        """Measure some parts of a tower, and keep its row."""
        load, found = Load(), dict[str, Any]()
        missing = {part: why for part, why in row.missing.items() if part not in parts}
        place = self.folder / ROWS / file_name(row.name)
        for part in parts:
            self._tell(0.0)
            problem: str | None
            if part == "score" and row.tower.pretrained == "none":
                found[part], problem = None, "pretrained is none"
            else:
                log = place.with_suffix(f".{part}.log")
                found[part], problem = in_a_process(self._work(part, row.tower), log, self._tell)
            if problem is not None:
                missing[part] = problem
            self._num_done += 1
        row = row.model_copy(update={**found, "missing": missing, "provenance": Provenance.under(load)})
        write_atomically(place, json.dumps(row.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")
        return row

    def _work(self, part: str, tower: TowerConfig) -> Work:
        config = self.study.config
        if part == "score":
            sources = (None if own is None else own.model_dump(mode="json") for own in (config.data, config.train_data))
            return partial(measure_score, tower, *sources, offline=self._is_offline)
        return partial({"cost": measure_cost, "training": measure_training}[part], tower, config.measuring)

    @cached_property
    def _is_offline(self) -> bool:
        """Whether the hub gives no answer, which its own library finds out anew for each tower, in a minute."""
        endpoint = require("huggingface_hub", extra="train").constants.ENDPOINT
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=HUB_SECONDS).close()
        except urllib.error.HTTPError:  # an answer
            return False
        except (OSError, ValueError):
            return True
        return False

    def _tell(self, share: float) -> None:
        """Percent, so that the time left can be told from the first tower on."""
        percent = min(99, int(100 * (self._num_done + share) / self.num_parts))
        if percent > self._shown:
            self._shown = percent
            self.watch.work("measuring, percent", percent, 100)


def _told(row: TowerResult, parts: list[str]) -> list[str]:
    """What was just measured, in words."""
    told = [] if row.cost is None else [f"{row.cost.latency_ms_batch_1.median:.1f} ms an image"]
    return told + [f"no {PART_NAMES[part]}: {row.missing[part]}" for part in parts if part in row.missing]


def _name(source: Source | None) -> str | None:
    return None if source is None else source.name


def _write(work: _Towers, rows: list[TowerResult]) -> TowersRecord:
    """The record of what is measured so far, on disk too."""
    study, folder = work.study, work.folder
    loads = [row.provenance.other_load for row in rows if row.provenance.other_load is not None]
    record = TowersRecord(
        name=study.name,
        changes=list(study.changes),
        measuring=study.config.measuring,
        data=_name(work.data),
        train_data=_name(work.train_data),
        num_towers=len(study.config.chosen),
        rows=rows,
        provenance=Provenance(other_load=max(loads, default=None), num_cores=available_cores()),
    )
    record.write(folder)
    write_atomically(folder / "study.md", towers_markdown(record))
    if find_spec("jinja2") is not None and find_spec("matplotlib") is not None:  # the table is there without them
        write_towers_page(folder)
    return record
