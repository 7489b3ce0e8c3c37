import numpy as np
import pytest

from pocketclip.data.batches import BatchPlan
from pocketclip.errors import UserError


def test_every_image_comes_once_an_epoch_in_a_new_order() -> None:
    plan = BatchPlan(12, 4, seed=0)
    epochs = [np.concatenate([plan.batch(3 * epoch + step)[1] for step in range(3)]) for epoch in range(4)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_steps_tell_their_epoch() -> None:
    plan = BatchPlan(10, 4, seed=0)
    assert plan.steps_per_epoch == 2
    assert [plan.batch(step)[0] for step in range(6)] == [0, 0, 1, 1, 2, 2]


def test_images_left_over_are_others_each_epoch() -> None:
    plan = BatchPlan(10, 4, seed=0)
    left_over = []
    for epoch in range(30):
        seen = np.concatenate([plan.batch(2 * epoch + step)[1] for step in range(2)])
        assert len(set(seen)) == 8
        left_over.append(set(range(10)) - set(seen))
    assert set().union(*left_over) == set(range(10))


def test_a_step_can_be_asked_for_in_any_order() -> None:
    forward = [BatchPlan(10, 3, seed=5).batch(step)[1].tolist() for step in range(12)]
    assert [BatchPlan(10, 3, seed=5).batch(step)[1].tolist() for step in reversed(range(12))] == forward[::-1]


def test_another_seed_is_another_order() -> None:
    assert BatchPlan(50, 50, seed=0).batch(0)[1].tolist() != BatchPlan(50, 50, seed=1).batch(0)[1].tolist()


def test_a_batch_as_large_as_the_data_is_the_whole_data() -> None:
    assert sorted(BatchPlan(5, 5, seed=0).batch(7)[1]) == [0, 1, 2, 3, 4]


def test_a_batch_larger_than_the_data_names_the_setting_and_the_largest_value() -> None:
    with pytest.raises(UserError, match=r"train\.batch_size: 9 is more than the 8 usable images; .* to at most 8"):
        BatchPlan(8, 9, seed=0)


@pytest.mark.parametrize("num_samples", [0, 1])
def test_one_pair_cannot_be_contrasted(num_samples: int) -> None:
    with pytest.raises(UserError, match=r"A contrastive batch needs 2\."):
        BatchPlan(num_samples, 2, seed=0)
