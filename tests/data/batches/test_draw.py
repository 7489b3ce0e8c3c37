import numpy as np
import pytest

from pocketclip.data import open_source
from pocketclip.data.batches import DrawnCaptions, EachCaption, draw_captions


@pytest.mark.parametrize(("num_captions", "count"), [(1, 1), (1, 4), (3, 2), (3, 3), (3, 8), (5, 5)])
def test_no_caption_comes_twice_before_each_came_once(num_captions: int, count: int) -> None:
    for seed in range(20):
        drawn = draw_captions(num_captions, count, np.random.default_rng(seed))
        uses = [drawn.count(number) for number in range(num_captions)]
        assert sum(uses) == count
        assert max(uses) - min(uses) <= 1


def test_an_item_is_an_example_of_one_image_or_of_several() -> None:
    assert DrawnCaptions(1).num_items(open_source("scenes:10")) == 10
    assert DrawnCaptions(6).num_items(open_source("scenes:10,texts=facts,twinned=true")) == 5


def test_an_item_is_a_caption_and_names_its_image() -> None:
    captions = EachCaption.of(open_source("scenes:3"))
    assert captions.ends.tolist() == [2, 4, 6]
    assert [captions.image_of(number) for number in range(6)] == [0, 0, 1, 1, 2, 2]
