"""Batches by identity: P people in K views each, the same again after a kill, and nobody left out for long."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.data.batches import BatchPlan, IdentityPlan, identity_plan
from pocketclip.errors import UserError

Ids = npt.NDArray[np.int64]


def plan(people: Ids, batch_size: int, views: int, seed: int = 0) -> IdentityPlan:
    return identity_plan(BatchPlan(len(people), batch_size, seed), people, views)


def people_of(sizes: list[int], seed: int = 0) -> Ids:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


SIZES = [[4] * 12, [1, 2, 3, 4, 5, 6, 7, 8, 9], [40, 2, 2, 2, 2], [1] * 16]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("views", [2, 4])
def test_every_batch_shows_so_many_people_in_so_many_views(sizes: list[int], views: int) -> None:
    people = people_of(sizes)
    made = plan(people, 4 * views, views)
    for step in range(3 * made.steps_per_epoch):
        epoch, items = made.batch(step)
        assert epoch == step // made.steps_per_epoch
        counts = Counter(people[items].tolist())
        assert list(counts.values()) == [views] * 4
        for person in counts:
            own = items[people[items] == person]
            assert len(set(own.tolist())) == min(views, sizes[person])


def test_an_epoch_of_people_with_equally_many_views_shows_each_picture_once() -> None:
    people = people_of([8] * 6)
    made = plan(people, 12, 4)
    assert made.steps_per_epoch == 4
    orders = [made.order(epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(48))
    assert not np.array_equal(orders[0], orders[1])


def test_as_many_batches_as_there_can_be_are_filled() -> None:
    made = plan(people_of([40, 2, 2, 2, 2]), 4, 2)  # whoever has most can be in each batch once
    assert made.steps_per_epoch == 4
    assert sum(int((made.identities[made.batch(step)[1]] == 0).sum()) for step in range(4)) == 8


def test_an_order_hangs_on_seed_and_epoch_alone() -> None:
    people = people_of([3, 4, 5, 6, 7, 8])
    first, again, other = plan(people, 8, 2), plan(people, 8, 2), plan(people, 8, 2, seed=1)
    later = again.batch(2 * again.steps_per_epoch + 1)  # as a resumed run asks
    assert np.array_equal(first.batch(2 * first.steps_per_epoch + 1)[1], later[1])
    assert not np.array_equal(first.order(0), other.order(0))


def test_items_of_nobody_are_in_no_batch() -> None:
    people = people_of([4, 4, 4])
    people[people == 1] = -1
    made = plan(people, 4, 2)
    assert set(people[np.concatenate([made.order(epoch) for epoch in range(4)])].tolist()) == {0, 2}


def test_too_few_people_for_a_batch_are_named() -> None:
    with pytest.raises(UserError, match=r"a batch of 16 with 4 views shows 4 identities, and there are 3; .* most 12"):
        plan(people_of([9, 9, 9]), 16, 4)
    plan(people_of([9, 9, 9]), 12, 4)  # as the message says
