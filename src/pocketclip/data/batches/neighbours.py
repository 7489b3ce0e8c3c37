"""An order of an epoch in which near neighbours meet: hard negatives in every batch, each image still once."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.data.batches.plan import BatchPlan

_GROUPS = 13  # keeps these draws apart from others of the same numbers


@dataclass(frozen=True)
class NeighbourPlan(BatchPlan):
    """Batches made of small groups of images that are near each other; who is in a group is drawn anew each epoch."""

    features: npt.NDArray[np.float32] = field(kw_only=True, repr=False)
    """(N, F), of the items in their order; what is near is decided by their cosines."""
    apart: npt.NDArray[np.bool_] = field(kw_only=True, repr=False)
    """(N,), True of items that belong to no group: they have no feature, or are the same picture as another item, whose
    captions would be taken for wrong ones."""
    group: int = field(kw_only=True)
    _orders: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False, kw_only=True)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch not in self._orders:
            self._orders.clear()
            self._orders[epoch] = self._drawn(np.random.default_rng([self.seed, epoch, _GROUPS]))
        return self._orders[epoch]

    def _drawn(self, random: np.random.Generator) -> npt.NDArray[np.int64]:
        members = np.flatnonzero(~self.apart)
        groups = groups_of_neighbours(self.features, random.permutation(members), self.group, random)
        order = np.concatenate([groups[number] for number in random.permutation(len(groups))] or [members])
        others = random.permutation(np.flatnonzero(self.apart))
        return np.insert(order, random.integers(0, len(order) + 1, len(others)), others)


def groups_of_neighbours(
    features: npt.NDArray[np.float32], members: npt.NDArray[np.int64], size: int, random: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """The members in groups of `size` that are near each other, one perhaps smaller: each member is in one group.

    They are split in two halves again and again, along the line between two of them that are drawn at random, as
    Annoy's trees are: N log N work, where each one's true neighbours would take N squared.
    """
    groups, waiting = [], [members] if len(members) else []
    while waiting:
        part = waiting.pop()
        if len(part) <= size:
            groups.append(part)
            continue
        first = int(random.integers(len(part)))
        second = (first + 1 + int(random.integers(len(part) - 1))) % len(part)  # another one
        along = features[part] @ (features[part[second]] - features[part[first]])
        whole_groups = -(-len(part) // size)
        middle = size * (whole_groups // 2)
        nearer = np.argpartition(along, middle)
        waiting += [part[nearer[middle:]], part[nearer[:middle]]]
    return groups


def neighbour_plan(
    plan: BatchPlan,
    features: npt.NDArray[np.floating[Any]],
    rows: npt.NDArray[np.int64],
    pictures: npt.NDArray[np.int64],
    group: int,
) -> NeighbourPlan:
    """A plan over the same items in which neighbours meet.

    Args:
        plan: the one to change.
        features: (R, F), in any row.
        rows: (N,), row of each item, -1 of one without a feature.
        pictures: (R,), equal where the picture of a row is the same.
        group: how many meet.
    """
    known = rows >= 0
    _, first = np.unique(pictures[rows[known]], return_index=True)
    apart = np.ones(len(rows), dtype=bool)
    apart[np.flatnonzero(known)[first]] = False
    values = np.zeros((len(rows), features.shape[1]), dtype=np.float32)
    values[known] = features[rows[known]]
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return NeighbourPlan(plan.num_samples, plan.batch_size, plan.seed, features=values, apart=apart, group=group)
