"""Batches in which near neighbours meet: every image once an epoch, in groups that the seed draws anew."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.data.batches import BatchPlan, neighbour_plan
from pocketclip.data.batches.neighbours import NeighbourPlan, groups_of_neighbours


def clusters(num_clusters: int, members: int, width: int = 16) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(0)
    centres = random.normal(size=(num_clusters, width)).repeat(members, 0)
    return (centres + 0.05 * random.normal(size=centres.shape)).astype(np.float32)


def plan_over(
    features: npt.NDArray[np.float32],
    batch_size: int = 8,
    group: int = 4,
    seed: int = 0,
    rows: npt.NDArray[np.int64] | None = None,
    pictures: npt.NDArray[np.int64] | None = None,
) -> NeighbourPlan:
    rows = np.arange(len(features)) if rows is None else rows
    pictures = np.arange(len(features)) if pictures is None else pictures
    return neighbour_plan(BatchPlan(len(rows), batch_size, seed), features, rows, pictures, group)


@pytest.mark.parametrize(("count", "batch_size", "group"), [(64, 8, 4), (61, 8, 4), (10, 10, 3), (5, 2, 2), (7, 3, 5)])
def test_every_item_comes_once_an_epoch(count: int, batch_size: int, group: int) -> None:
    plan = plan_over(clusters(count, 1), batch_size, group)
    for epoch in range(3):
        assert sorted(plan.order(epoch)) == list(range(count))
    seen = np.concatenate([plan.batch(step)[1] for step in range(plan.steps_per_epoch)])
    assert Counter(seen.tolist()).most_common(1)[0][1] == 1
    assert len(seen) == count // batch_size * batch_size


def test_those_of_a_cluster_meet() -> None:
    features = clusters(40, 8)
    plan = plan_over(features, batch_size=16, group=4)
    together = []
    for step in range(plan.steps_per_epoch):
        owners = plan.batch(step)[1] // 8
        together.append(np.mean([(owners == owner).sum() - 1 for owner in owners]))
    assert np.mean(together) > 2.2  # of 3 at most; 0.33 where they are drawn at random


def test_other_groups_meet_in_other_epochs_and_the_seed_decides() -> None:
    features = clusters(20, 6)
    plan = plan_over(features, group=3)
    orders = [plan.order(epoch) for epoch in range(3)]
    assert not np.array_equal(orders[0], orders[1])
    again = plan_over(features, group=3)
    assert np.array_equal(again.order(2), orders[2])  # without the epochs before
    assert np.array_equal(plan.order(0), orders[0])  # and back
    assert not np.array_equal(plan_over(features, group=3, seed=1).order(0), orders[0])


def test_a_step_depends_on_its_number_alone() -> None:
    features = clusters(9, 4)
    whole = plan_over(features)
    batches = [whole.batch(step)[1] for step in range(9)]
    resumed = plan_over(features)
    assert all(np.array_equal(resumed.batch(step)[1], batches[step]) for step in (7, 8))


def test_the_same_picture_twice_is_no_neighbour_of_itself() -> None:
    """Its captions would be taken for each other's wrong ones; chance alone brings both into a batch."""
    features = clusters(60, 1).repeat(2, 0)
    plan = plan_over(features, batch_size=12, group=4, pictures=np.arange(120) // 2)
    met = sum(12 - len(set((plan.batch(step)[1] // 2).tolist())) for step in range(10 * plan.steps_per_epoch)) / (
        10 * plan.steps_per_epoch
    )
    assert met < 1.2  # 0.55 by chance, 6 as neighbours
    assert sorted(plan.order(0)) == list(range(120))


def test_items_without_a_feature_come_too() -> None:
    rows = np.array([0, -1, 1, 2, -1, 3, 4, 5])
    plan = plan_over(clusters(6, 1), batch_size=4, group=2, rows=rows, pictures=np.arange(6))
    assert plan.apart.tolist() == [False, True, False, False, True, False, False, False]
    assert sorted(plan.order(0)) == list(range(8))
    assert sorted(plan_over(np.zeros((0, 3), np.float32), 2, 2, rows=np.full(4, -1)).order(0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_groups_have_their_size_but_for_one(count: int) -> None:
    features = clusters(count, 1)
    groups = groups_of_neighbours(features, np.arange(count), 4, np.random.default_rng(0))
    assert sorted(map(len, groups))[1:] == [4] * (len(groups) - 1)
    assert sorted(np.concatenate(groups)) == list(range(count))


def test_equal_features_are_split_all_the_same() -> None:
    groups = groups_of_neighbours(np.ones((33, 4), np.float32), np.arange(33), 4, np.random.default_rng(0))
    assert sorted(np.concatenate(groups)) == list(range(33))
    assert max(map(len, groups)) == 4
