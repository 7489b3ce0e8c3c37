"""What came of every single item, kept in a file, so that two models can be compared without asking them again.

One form for `evaluate --keep-items` and for the runs of a study: an `.npz` without pickle of the task's answers, of the
items' ids, and of the record as JSON.
"""

import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt

from pocketclip.config import digest
from pocketclip.data.keys import safe_key
from pocketclip.errors import UserError, first_line
from pocketclip.evaluate.identities import Ids
from pocketclip.evaluate.statistics import Units
from pocketclip.evaluate.task import NOT_ASKED, Task
from pocketclip.evaluate.task_data import Answers
from pocketclip.evaluate.tasks import task_of
from pocketclip.files import make_folder_of, write_atomically
from pocketclip.records import EvalResult, record_of

IDS, RECORD = "item_ids", "record"


@dataclass(frozen=True)
class Items:
    """What came of the items of one measurement."""

    record: EvalResult
    answers: Answers
    ids: Ids | None
    """(N,), who the units of all galleries are; None in files of earlier versions."""
    name: str
    """Of the model, or of the file where its record has none."""

    @cached_property
    def task(self) -> Task:
        """What was asked."""
        return task_of(self.record)

    @cached_property
    def asked(self) -> dict[str, Any]:
        """Settings that shape what was asked, where they are not as they come."""
        return asked_settings(self.record)

    @cached_property
    def units(self) -> list[Units]:
        """Scores unit by unit, of each gallery."""
        return self.task.units(self.answers)

    @property
    def sizes(self) -> list[int]:
        """Units of each gallery."""
        return [len(next(iter(group.values()))[0]) for group in self.units]

    @property
    def num_units(self) -> int:
        """Of all galleries."""
        return sum(self.sizes)


def items_of(record: EvalResult, kept: tuple[Answers, Ids] | None) -> Items:
    """A record with what `TaskData.items` has of it.

    Raises:
        UserError: the task keeps nothing, or not of each item.
    """
    if kept is None:
        raise UserError(f"--task {record.task}: keeps nothing of single items, so two models cannot be compared by it.")
    answers, ids = kept
    items = Items(record, answers, ids, record.model or "")
    if len(ids) != items.num_units:
        raise UserError(f"--task {record.task}: says who {len(ids)} items are, and scores {items.num_units}.")
    return items


def asked_settings(record: EvalResult) -> dict[str, Any]:
    """Settings of a record's task that shape what was asked, where they are not as they come."""
    usual = task_of(record).settings
    return {
        key: value for key, value in record.settings.items() if key not in NOT_ASKED and usual.get(key, ...) != value
    }


def items_file(record: EvalResult) -> str:
    """The name of a file of items: another one for another model, task, data, or setting of what is asked."""
    named = "_".join(safe_key(Path(part).name)[:40] for part in (record.task, record.model or "", record.dataset))
    asked = asked_settings(record)
    about = [record.task, record.model, record.dataset, record.split, *([asked] if asked else [])]
    return f"{named}-{digest(about)[:6]}.npz"


def write_items(path: Path, items: Items, *, elsewhere: str = "--keep-items") -> Path:
    """Write a file of items, whole or not at all."""
    arrays: dict[str, Any] = {
        name: values.astype(np.int32) if values.dtype.kind == "i" else values for name, values in items.answers.items()
    }
    if items.ids is not None:
        arrays[IDS] = items.ids
    arrays[RECORD] = np.frombuffer(json.dumps(items.record.to_json()).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    make_folder_of(path, elsewhere=elsewhere)
    write_atomically(path, buffer.getvalue(), elsewhere=elsewhere)
    return path


def read_answers(path: Path, *, alone: bool = False) -> tuple[Answers, Ids | None, EvalResult | None]:
    """What a file of items holds; files of earlier versions hold answers only, which may be read `alone`.

    Raises:
        OSError, ValueError, BadZipFile: it is missing or damaged.
    """
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files if not (alone and name in (IDS, RECORD))}
    ids, record = arrays.pop(IDS, None), arrays.pop(RECORD, None)
    answers = {name: _widest(values) for name, values in arrays.items()}
    return answers, ids, None if record is None else _record(record.tobytes(), str(path))


def holds_items(path: Path) -> bool:
    """Whether an `.npz` is one of kept items, or too damaged to tell."""
    try:
        with ZipFile(path) as stored:
            return f"{RECORD}.npy" in stored.namelist()
    except (OSError, BadZipFile):
        return True


def read_items(path: Path) -> Items:
    """A file of items; a UserError where it is none."""
    try:
        answers, ids, record = read_answers(path)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: no file of kept items ({first_line(error)}).") from error
    if record is None:
        raise UserError(f"{path}: says of no item what it is; keep the items again with --keep-items.")
    return Items(record, answers, ids, record.model or str(path.parent))


def _record(text: bytes, place: str) -> EvalResult:
    record = record_of(json.loads(text), place=place)
    if not isinstance(record, EvalResult):
        raise UserError(f"{place}: holds a record of another kind than a measurement's.")
    return record


def _widest(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    kind = numbers.dtype.kind
    return numbers if kind == "U" else numbers.astype(np.int64 if kind == "i" else np.float64)
