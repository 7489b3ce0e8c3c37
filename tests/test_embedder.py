"""The contract alone, filled in by a model of a few lines."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.embedder import Embedder, Floats, Ids, Mask, Pixels
from pocketclip.errors import UserError
from pocketclip.preprocess import PreprocessConfig


class Letters:
    context_length = 8

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        ids = np.zeros((len(texts), self.context_length), np.int64)
        for row, text in enumerate(texts):
            letters = text.encode()[: self.context_length]
            ids[row, : len(letters)] = list(letters)
        return ids, ids > 0


def unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Toy(Embedder):
    """Pictures by their mean colour, texts by how often r, g and b stand in them."""

    name, embed_dim, preprocess, inverse_temperature = "toy", 3, PreprocessConfig(image_size=4), 10.0
    tokenizer = Letters()

    def encode_images(self, pixels: Pixels) -> Floats:
        assert pixels.shape[1:] == (4, 4, 3)
        return unit(pixels.reshape(len(pixels), -1, 3).mean(axis=1).astype(np.float32) + 1)

    def encode_texts(self, tokens: Ids, mask: Mask) -> Floats:
        counts = [[(row[own] == ord(letter)).sum() for letter in "rgb"] for row, own in zip(tokens, mask, strict=True)]
        return unit(np.array(counts, np.float32) + 0.1)

    def made_from(self) -> dict[str, Any]:
        return {"toy": 1}


class Blind(Toy):
    tokenizer = None  # type: ignore[assignment]


def test_texts_come_back_in_their_order_whatever_their_length() -> None:
    model = Toy()
    texts = ["rr", "g", "bbbbbb", "rg"]
    one_by_one = np.concatenate([model.encode_text(text) for text in texts])
    assert np.array_equal(model.encode_text(texts, batch_size=2), one_by_one)
    assert model.encode_text([]).shape == (0, 3)


def test_pictures_come_in_batches_and_in_every_form() -> None:
    model, data = Toy(), [encode_picture(seed) for seed in range(5)]
    assert np.array_equal(model.encode_image(data, batch_size=2), np.concatenate([model.encode_image(d) for d in data]))
    assert model.encode_image([]).shape == (0, 3)


def test_classes_come_with_shares_that_sum_to_one() -> None:
    (shares,) = Toy().classify(encode_picture(0), ["r", "g", "b"], template="{}")
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_model_of_images_alone_refuses_texts_by_its_name() -> None:
    with pytest.raises(UserError, match="toy: knows images only"):
        Blind().encode_text("r")


def test_for_scores_is_the_model_itself_unless_it_says_otherwise() -> None:
    model = Toy()
    assert model.for_scores() is model
