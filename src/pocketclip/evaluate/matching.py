"""Whether two measurements asked the same of the same items, and the items of one in the order of the other."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np

from pocketclip.errors import UserError
from pocketclip.evaluate.identities import Ids
from pocketclip.evaluate.items import Items
from pocketclip.evaluate.statistics import Units

WORDS = frozenset({"protocol", "class_names", "templates"})
"""Settings that say nothing more than the hash of all names and templates does."""


def in_order_of(first: Items, other: Items) -> list[Units]:
    """Another measurement's units in the order of the first one's, matched by their ids.

    Raises:
        UserError: they are of another task or setting, or of other items.
    """
    if other.record.task != first.record.task:
        raise UserError(f"{first.name} was asked {first.record.task}, and {other.name} {other.record.task}.")
    _check_settings(first, other)
    sizes = first.sizes, other.sizes
    if first.ids is None or other.ids is None:
        if sizes[0] != sizes[1] or first.record.dataset != other.record.dataset:
            raise _different(first, other, "")
        orders = [np.arange(size) for size in sizes[0]]
    else:
        own, their = _unique(first.ids), _unique(other.ids)
        if sizes[0] != sizes[1] or set(own) != set(their):
            raise _different(first, other, f", of which {len(set(own) & set(their)):,} are the same")
        place = {item: number for number, item in enumerate(their)}
        found = np.array([place[item] for item in own], np.int64)
        starts = np.cumsum([0, *sizes[0]])
        orders = [found[low:high] - low for low, high in pairwise(starts.tolist())]
        if any((order < 0).any() or (order >= len(order)).any() for order in orders):
            raise _different(first, other, ", the same ones in other galleries")
    units: list[Units] = [
        {name: (hits[order], counts[order]) for name, (hits, counts) in group.items()}
        for group, order in zip(other.units, orders, strict=True)
    ]
    for ours, theirs in zip(first.units, units, strict=True):
        if any(name in theirs and not np.array_equal(ours[name][1], theirs[name][1]) for name in ours):
            raise UserError(f"{first.name} and {other.name} were asked differently often about the same items.")
    return units


def _check_settings(first: Items, other: Items) -> None:
    """A UserError where what was asked differs by a setting; words may come of two places where they are the same."""
    protocols = first.record.protocol, other.record.protocol
    same_words = protocols[0] is not None and protocols[1] is not None and protocols[0].hash == protocols[1].hash
    usual = first.task.settings
    for key in sorted(first.asked.keys() | other.asked.keys()):
        ours, theirs = (side.asked.get(key, usual.get(key)) for side in (first, other))
        if ours != theirs and not (same_words and key in WORDS):
            shown, others = (value if isinstance(value, str) else json.dumps(value) for value in (ours, theirs))
            raise UserError(
                f"{first.name} and {other.name} were asked {first.record.task} with other settings: {key} is {shown} "
                f"and {others}; measure both with the same --set {key}=VALUE."
            )


def _unique(ids: Ids) -> list[tuple[int, int]]:
    """Ids with how often each was there before: copies of an item are matched in their order."""
    seen: Counter[int] = Counter()
    unique = []
    for number in ids.tolist():
        unique.append((number, seen[number]))
        seen[number] += 1
    return unique


def _different(first: Items, other: Items, shared: str) -> UserError:
    unit = first.task.unit
    return UserError(
        f"{first.name} and {other.name} were measured on different items: {first.num_units:,} {unit} of "
        f"{first.record.dataset} and {other.num_units:,} of {other.record.dataset}{shared}; measure both on the same "
        "--data."
    )
