"""Batches of P identities with K views each: every batch then has matches to learn from, and as many as any other."""

import functools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pocketclip.data.batches.plan import BatchPlan
from pocketclip.errors import UserError

_ORDER = 19  # keeps these draws apart from others of the same numbers
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class IdentityPlan(BatchPlan):
    """Every batch shows P identities, each in K views; who meets and which views go together is drawn anew each epoch.

    An epoch shows of each identity all of its items, where they fill whole batches. One with fewer than a multiple of K
    shows some of them twice.
    """

    identities: Numbers = field(kw_only=True, repr=False)
    """(N,), of the items in their order, from 0; below 0 of items that are of none, and in no batch."""
    views: int = field(kw_only=True)
    """K."""
    _orders: dict[int, Numbers] = field(default_factory=dict, compare=False, repr=False, kw_only=True)

    @property
    def people(self) -> int:
        """P."""
        return self.batch_size // self.views

    @functools.cached_property
    def _turns(self) -> Numbers:
        """(I,), how often each identity takes part in an epoch."""
        return -(-np.bincount(self.identities[self.identities >= 0]) // self.views)

    @functools.cached_property
    def _num_batches(self) -> int:
        """The most batches in which no identity is twice: as many as fill P places each with every one's turns."""
        low, high = 0, int(self._turns.sum()) // self.people
        while low < high:
            middle = (low + high + 1) // 2
            enough = int(np.minimum(self._turns, middle).sum()) >= self.people * middle
            low, high = (middle, high) if enough else (low, middle - 1)
        return low

    @property
    def steps_per_epoch(self) -> int:
        return self._num_batches

    def order(self, epoch: int) -> Numbers:
        if epoch not in self._orders:
            self._orders.clear()
            self._orders[epoch] = self._drawn(np.random.default_rng([self.seed, epoch, _ORDER]))
        return self._orders[epoch]

    def _drawn(self, random: np.random.Generator) -> Numbers:
        views = [list(self._groups(own, random)) for own in self._items_of_each]
        left, batches = self._turns.copy(), []
        for _ in range(self._num_batches):
            # Who has most turns left goes first, or the last batches would lack identities
            chosen = np.lexsort((random.random(len(left)), -left))[: self.people]
            left[chosen] -= 1
            batches += [views[identity].pop() for identity in random.permutation(chosen)]
        order = np.concatenate(batches).reshape(self._num_batches, self.batch_size)
        return random.permutation(order).reshape(-1)

    @functools.cached_property
    def _items_of_each(self) -> list[Numbers]:
        order = np.argsort(self.identities, kind="stable")
        order = order[self.identities[order] >= 0]
        return np.split(order, np.bincount(self.identities[order]).cumsum()[:-1])

    def _groups(self, items: Numbers, random: np.random.Generator) -> list[Numbers]:
        """The items of an identity by K; where some come twice, then not in one group if there are others."""
        order = random.permutation(items)
        missing = -len(order) % self.views
        whole = len(order) - len(order) % self.views
        further = np.concatenate([random.permutation(order[:whole]), order[whole:]])
        return list(np.concatenate([order, np.resize(further, missing)]).reshape(-1, self.views))


def identity_plan(plan: BatchPlan, identities: Numbers, views: int) -> IdentityPlan:
    """A plan over the same items in which every batch shows so many views of each of its identities.

    Raises:
        UserError: there are fewer identities than a batch shows.
    """
    found = IdentityPlan(plan.num_samples, plan.batch_size, plan.seed, identities=identities, views=views)
    known = int((found._turns > 0).sum())
    if found.steps_per_epoch == 0:
        raise UserError(
            f"train.identity_batches: a batch of {plan.batch_size} with {views} views shows {found.people} identities, "
            f"and there are {known}; set train.batch_size to at most {known * views}."
        )
    return found
