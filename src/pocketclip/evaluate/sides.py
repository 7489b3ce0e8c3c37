"""What a user writes for one side of a comparison: one model or several runs of it, or files of kept items."""

import json
from collections.abc import Sequence
from pathlib import Path

from pocketclip.errors import UserError
from pocketclip.evaluate.items import Items, asked_settings, holds_items, read_items
from pocketclip.files import no_such
from pocketclip.records import EvalResult

Question = tuple[str, str, str, str]
"""Task, data, split, and in words the settings that shape what is asked, empty where they are as they come."""


def runs_of(text: str) -> list[str]:
    """The models of one side: those that a pattern such as `runs/a/seed-*` fits, the runs in a folder, or the name.

    Raises:
        UserError: a pattern that fits nothing.
    """
    path = Path(text)
    if any(sign in text for sign in "*?[") and not path.exists():
        return [str(found) for found in _fitting(text)]
    if path.is_dir() and not (path / "config.json").is_file() and not (path / "bundle").exists():
        runs = sorted(bundle.parent for bundle in path.glob("*/bundle"))
        return [str(run) for run in runs] or [text]
    return [text]


def kept_items(text: str) -> dict[Question, list[Items]]:
    """The kept items of one side, by what was asked: of a file, of a folder and those below, or of a pattern of them.

    Raises:
        UserError: there are none, or two of one model answer the same question.
    """
    places = [Path(text)] if Path(text).exists() else _fitting(text) if any(sign in text for sign in "*?[") else []
    if not places:
        raise no_such("file or folder of kept items", text)
    files = [file for place in places for file in (item_files(place) if place.is_dir() else [place])]
    if not files:
        raise UserError(f"{text}: no kept items here; pocketclip evaluate MODEL --keep-items {text} writes them.")
    found: dict[Question, list[Items]] = {}
    for file in files:
        items = read_items(file)
        found.setdefault(question_of(items), []).append(items)
    for question, own in found.items():
        names = [items.name for items in own]
        if len(set(names)) < len(names):
            raise UserError(
                f"{text}: holds {question[0]} of {names[0]} on {question[1]} more than once; name one file."
            )
    return found


def item_files(folder: Path) -> list[Path]:
    """Files of kept items in a folder and those below."""
    return [path for path in sorted(folder.rglob("*.npz")) if holds_items(path)]


def question_of(items: Items) -> Question:
    """What was asked of kept items."""
    return asked_in(items.record)


def asked_in(record: EvalResult) -> Question:
    """What a record answers."""
    settings = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in sorted(asked_settings(record).items())
    ]
    return record.task, record.dataset, record.split, ", ".join(settings)


def same_questions(
    ours: dict[Question, list[Items]], theirs: dict[Question, list[Items]], tasks: Sequence[str] | None
) -> list[tuple[list[Items], list[Items]]]:
    """Of each question that both sides were asked their items; data may have another name where there is no choice.

    Questions that differ by a setting alone are a pair, too, where there is no such one: `compare` says by which one.

    Raises:
        UserError: they have no question in common, or none of the `tasks`.
    """
    ours, theirs = ({key: own for key, own in side.items() if not tasks or key[0] in tasks} for side in (ours, theirs))
    pairs = [(own, theirs[question]) for question, own in ours.items() if question in theirs]
    both = {question[:3] for question in ours.keys() & theirs.keys()}
    alone = {question[:3]: own for question, own in ours.items() if question[:3] not in both}
    pairs += [(alone[question[:3]], own) for question, own in theirs.items() if question[:3] in alone]
    if not pairs:
        for task in dict.fromkeys(question[0] for question in ours):
            left, right = ([own for key, own in side.items() if key[0] == task] for side in (ours, theirs))
            if len(left) == len(right) == 1:
                pairs.append((left[0], right[0]))
    if not pairs:
        asked = [", ".join(sorted({key[0] for key in side})) or "none" for side in (ours, theirs)]
        of = f" of {', '.join(tasks)}" if tasks else ""
        raise UserError(f"A and B have no kept items{of} in common: A has {asked[0]}, B has {asked[1]}.")
    return pairs


def _fitting(pattern: str) -> list[Path]:
    path = Path(pattern)
    root = Path(path.anchor or ".")
    found = sorted(root.glob(str(path.relative_to(path.anchor)) if path.anchor else pattern))
    if not found:
        raise UserError(f"{pattern}: fits no file or folder here.")
    return found
