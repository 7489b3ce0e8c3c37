"""Time that goes into caches is counted once."""

import time

import pytest

from pocketclip.stages.filling import Filling


def test_time_counts_within_and_once_where_it_is_entered_again() -> None:
    filling = Filling()
    started = time.perf_counter()
    with filling.counted(), filling.counted():
        time.sleep(0.02)
    spent = time.perf_counter() - started
    assert 0.02 <= filling.seconds <= spent
    with pytest.raises(ValueError, match="x"), filling.counted():
        raise ValueError("x")
    before = filling.seconds
    time.sleep(0.01)
    assert filling.seconds == before
