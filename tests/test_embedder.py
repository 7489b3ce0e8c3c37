"""The contract alone, filled in by a model of a few lines."""

from collections.abc import Sequence
from pathlib import Path
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
    num_parameters = 1234
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


def test_it_shows_itself_in_one_line() -> None:
    told = "'toy', num_parameters=1_234, embed_dim=3, image_size=4, {}, device='cpu')"
    assert repr(Toy()) == f"Toy({told.format('context_length=8')}"
    assert repr(Blind()) == f"Blind({told.format('no texts')}"


def test_sentences_and_pictures_are_encoded_together_in_their_order(tmp_path: Path) -> None:
    model, data = Toy(), [encode_picture(seed) for seed in range(3)]
    (tmp_path / "a.jpg").write_bytes(data[0])
    given = ["rr", data[1], str(tmp_path / "a.jpg"), "bbbbb", tmp_path / "a.jpg", "g"]
    one_by_one = [
        model.encode_image(thing) if kind == "image" else model.encode_text(thing)
        for thing, kind in zip(given, ("text", "image", "image", "text", "image", "text"), strict=True)
    ]
    for things in (given, tuple(given), iter(given)):
        assert np.array_equal(model.encode(things, batch_size=2), np.concatenate(one_by_one))
    assert np.array_equal(model.encode("rr"), model.encode_text("rr"))
    assert np.array_equal(model.encode(data[1]), model.encode_image(data[1]))
    assert model.encode([]).shape == (0, 3)


def test_a_model_of_images_alone_encodes_them() -> None:
    assert Blind().encode([encode_picture(0)]).shape == (1, 3)
    with pytest.raises(UserError, match="knows images only"):
        Blind().encode([encode_picture(0), "r"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["r", None], r"things\[1\]: is None; give a sentence, or a picture"),
        (3, "things: is 3"),
        ({"r": 1}, "no order"),
    ],
)
def test_what_is_neither_is_named(given: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Toy().encode(given)


def test_similarity_is_the_cosine_of_things_and_of_vectors() -> None:
    model, picture = Toy(), encode_picture(0)
    texts = model.encode_text(["rr", "b"])
    expected = model.encode_image(picture) @ texts.T
    assert np.array_equal(model.similarity(picture, ["rr", "b"]), expected)
    for vectors in (texts, texts * 3, texts.astype(np.float64), list(texts)):
        np.testing.assert_allclose(model.similarity(picture, vectors), expected, atol=1e-6)
    assert model.similarity(texts[0], texts).shape == (1, 2)
    np.testing.assert_allclose(model.similarity(texts, ["b"]), model.similarity(["b"], texts).T)
    assert np.array_equal(model.similarity(np.zeros((1, 3)), "b"), [[0]])
    assert model.similarity([], ["b"]).shape == (0, 1)


def test_vectors_of_another_model_are_refused() -> None:
    with pytest.raises(UserError, match="left has vectors of 4 numbers, those of toy have 3"):
        Toy().similarity(np.ones((2, 4)), "b")


@pytest.mark.parametrize(
    ("names", "template", "told"),
    [
        ("dog", "{}", r"should be a list, such as \['dog', 'cat'\] \(got 'dog'\)"),
        ([], "{}", "class_names is empty"),
        (["a", 3], "{}", r"class_names\[1\]: is 3"),
        (["a", "a"], "{}", "should differ"),
        (["a"], "a photo", "should hold {}"),
        (["a"], ["{}"], "should hold {}"),
    ],
)
def test_classes_that_are_none_are_named(names: Any, template: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Toy().classify(encode_picture(0), names, template=template)


def test_one_picture_and_several_are_classified() -> None:
    data = [encode_picture(seed) for seed in range(2)]
    both = Toy().classify((picture for picture in data), (name for name in "rgb"))
    for shares, picture in zip(both, data, strict=True):
        assert shares == pytest.approx(Toy().classify(picture, ["r", "g", "b"])[0], rel=1e-5)


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size should be at least 1"):
        Toy().encode_text("r", batch_size=0)


@pytest.mark.parametrize(
    ("text", "expected"), [("r", False), ("r" * 8, False), ("r" * 9, True), ("rgb" * 9 + " ", True)]
)
def test_a_sentence_is_cut_where_its_end_changes_nothing(text: str, expected: bool) -> None:
    assert Toy().is_cut(text) is expected
