"""A batch with teachers, for every method that learns from some."""

import pytest

from pocketclip.types import Features, ImageTextBatch
from taught import make_taught


@pytest.fixture
def taught() -> tuple[Features, ImageTextBatch]:
    """Four pairs with two teachers."""
    return make_taught()
