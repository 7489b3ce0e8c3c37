"""First in, first out, exactly."""

from collections import deque

import pytest
import torch

from pocketclip.losses.queue import NOBODY, FeatureQueue


def rows(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.arange(first, first + count)
    return ids[:, None].repeat(1, 3).float(), ids


def test_it_begins_with_nobody() -> None:
    queue = FeatureQueue(4, 3)
    assert queue.image_ids.tolist() == [NOBODY] * 4
    queue.push(*rows(5, 3))
    assert queue.image_ids.tolist() == [5, 6, 7, NOBODY]


@pytest.mark.parametrize(("size", "counts"), [(8, [4] * 7), (7, [3, 3, 3, 3]), (5, [5, 5, 2]), (6, [4, 1, 6, 3, 2])])
def test_the_oldest_make_room_whatever_the_batch(size: int, counts: list[int]) -> None:
    queue, expected, first = FeatureQueue(size, 3), deque[int](maxlen=size), 0
    for count in counts:
        queue.push(*rows(first, count))
        expected.extend(range(first, first + count))
        first += count
        assert sorted(i for i in queue.image_ids.tolist() if i != NOBODY) == sorted(expected)
        filled = queue.image_ids != NOBODY
        assert torch.equal(queue.rows[filled, 0].long(), queue.image_ids[filled]), "vectors stay with their images"
    assert int(queue.position) == first % size


def test_a_checkpoint_holds_all_of_it() -> None:
    queue, other = FeatureQueue(5, 3), FeatureQueue(5, 3)
    queue.push(*rows(0, 4))
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        one.push(*rows(4, 3))
    assert torch.equal(queue.rows, other.rows)
    assert other.image_ids.tolist() == [5, 6, 2, 3, 4]


def test_a_batch_larger_than_the_queue_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="refused where the recipe is read"):
        FeatureQueue(2, 3).push(*rows(0, 3))
