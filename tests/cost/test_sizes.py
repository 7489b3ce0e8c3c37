"""The stored counts are those of the sizes as they are built."""

import pytest

from pocketclip.cost.sizes import count_size, size_table
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.sizes import list_sizes

AGAIN = "make it anew: python -m pocketclip.cost.sizes > src/pocketclip/cost/sizes.json"


def test_every_size_has_a_row() -> None:
    assert list(size_table()) == list_sizes(), AGAIN


@pytest.mark.parametrize("name", list_sizes())
def test_pictures_are_as_large_as_the_size_says(name: str) -> None:
    config = DualEncoderConfig.parse(name, place=name)
    assert size_table()[name].image_size == config.image_encoder.image_size, AGAIN


@pytest.mark.parametrize("name", ["mobileclip_s0", "s_smke"])
def test_the_counts_are_those_of_what_is_built(name: str) -> None:
    assert size_table()[name] == count_size(name), AGAIN


@pytest.mark.slow
@pytest.mark.parametrize("name", list_sizes())
def test_the_counts_of_all_sizes_are_those_of_what_is_built(name: str) -> None:
    assert size_table()[name] == count_size(name), AGAIN
