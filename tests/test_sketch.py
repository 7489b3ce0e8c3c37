"""What a bundle knows of its training pictures."""

from pathlib import Path

import numpy as np
import pytest

from pocketclip.errors import UserError
from pocketclip.sketch import FILE, MAX_KEPT, Sketch


def numbers(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 63, count)


def test_a_small_set_is_known_whole() -> None:
    ids = numbers(1000, 0)
    sketch = Sketch.of(np.concatenate([ids, ids[:10], [-1, -1]]))
    assert sketch.num_pictures == 1000
    assert sketch.is_whole
    assert sketch.count_in(np.concatenate([ids[:212], numbers(788, 1), [-1]])) == 212


def test_of_a_large_set_the_share_is_estimated() -> None:
    ids = numbers(500_000, 0)
    sketch = Sketch.of(ids)
    assert len(sketch.lowest) == MAX_KEPT
    asked = np.concatenate([ids[:6000], numbers(4000, 1)])
    assert sketch.count_in(asked) == pytest.approx(6000, rel=0.1)
    assert sketch.count_in(numbers(4000, 2)) == 0


@pytest.mark.parametrize("sizes", [(100, 200), (100, 100_000), (100_000, 150_000)])
def test_two_trainings_are_joined(sizes: tuple[int, int]) -> None:
    first, second = numbers(sizes[0], 0), numbers(sizes[1], 1)
    joined = Sketch.of(second).joined(Sketch.of(first))
    whole = Sketch.of(np.concatenate([first, second]))
    assert joined.lowest.tolist() == whole.lowest.tolist()
    assert joined.num_pictures == pytest.approx(sum(sizes), rel=0.05)


def test_nothing_came_before() -> None:
    sketch = Sketch.of(numbers(10, 0))
    assert sketch.joined(None) is sketch
    assert sketch.joined(Sketch.of(np.zeros(0, np.int64))).lowest.tolist() == sketch.lowest.tolist()


def test_it_is_read_back(tmp_path: Path) -> None:
    assert Sketch.load(tmp_path) is None
    sketch = Sketch.of(numbers(100_000, 0))
    sketch.save(tmp_path)
    assert (tmp_path / FILE).stat().st_size < 300_000
    loaded = Sketch.load(tmp_path)
    assert loaded is not None
    assert loaded.num_pictures == sketch.num_pictures
    assert np.array_equal(loaded.lowest, sketch.lowest)


@pytest.mark.parametrize("content", [b"", b"pickle", np.zeros(3).tobytes()])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"trained_on\.npy: damaged"):
        Sketch.load(tmp_path)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2), np.int64), np.array([0, 1, 2]), np.zeros(0, np.int64)])
def test_other_numbers_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / FILE, array)
    with pytest.raises(UserError, match="damaged"):
        Sketch.load(tmp_path)
