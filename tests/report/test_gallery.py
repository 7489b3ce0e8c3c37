"""Galleries show what the metric counts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.evaluate.ranks import TIE, retrieval_ranks
from pocketclip.features.encode import Embeddings
from pocketclip.report.gallery import find_images, make_gallery, read_gallery, write_gallery


def embeddings(count: int) -> Embeddings:
    random = np.random.default_rng(0)

    def unit(rows: int) -> np.ndarray:
        vectors = random.normal(size=(rows, 6)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    owners = np.repeat(np.arange(count), 2)
    return Embeddings(unit(count), unit(2 * count), owners, np.arange(count), [])


def test_ranks_and_matches_agree_with_the_metric() -> None:
    source, vectors = open_source("scenes:20"), embeddings(20)
    gallery = make_gallery("val", source, vectors)
    ranks = retrieval_ranks(vectors.images, vectors.texts, vectors.text_images)
    rank_of = {}
    for text, owner in enumerate(vectors.text_images):
        rank_of[source.captions(int(owner))[text % 2]] = int(ranks.text_to_image[text]) + 1
    for example in gallery.text_to_image:
        assert example.rank == rank_of[example.query_text]
        places = [number for number, result in enumerate(example.results, start=1) if result.is_match]
        assert places == ([example.rank] if example.rank <= 5 else [])
    assert {example.rank for example in gallery.image_to_text} <= set(ranks.image_to_text + 1)


def test_another_picture_with_the_same_caption_is_marked_and_is_not_right() -> None:
    vectors = replace(embeddings(20), caption_ids=np.arange(40) % 4)  # each caption is that of ten pictures
    gallery = make_gallery("val", open_source("scenes:20"), vectors, num_image_queries=20)
    results = [result for example in gallery.text_to_image for result in example.results]
    assert 0.2 < np.mean([result.same_caption for result in results]) < 0.8
    assert not any(result.same_caption and result.is_match for result in results)
    assert any(result.same_caption for example in gallery.image_to_text for result in example.results)
    plain = make_gallery("val", open_source("scenes:20"), embeddings(20))
    assert not any(result.same_caption for example in plain.text_to_image for result in example.results)


def test_ties_count_against_the_model_on_the_page_too() -> None:
    source, count = open_source("scenes:20"), 20
    same = np.tile(np.eye(6, dtype=np.float32)[0], (2 * count, 1))
    gallery = make_gallery(
        "val", source, Embeddings(same[:count], same, np.repeat(np.arange(count), 2), np.arange(20), [])
    )
    assert {example.rank for example in gallery.text_to_image} == {20}
    assert {example.rank for example in gallery.image_to_text} == {39}  # behind the captions of all others
    for example in gallery.text_to_image + gallery.image_to_text:
        assert not any(result.is_match for result in example.results)
        assert example.answer is not None
        assert example.answer.is_match


def test_images_without_a_caption_are_neither_asked_nor_found() -> None:
    source, vectors = open_source("scenes:12"), embeddings(12)
    kept = vectors.text_images % 3 > 0
    chosen = Embeddings(vectors.images, vectors.texts[kept], vectors.text_images[kept], vectors.indices, [])
    gallery = make_gallery("val", source, chosen, num_image_queries=12)
    assert (gallery.num_images, len(gallery.image_to_text)) == (8, 8)


def test_a_picture_that_went_away_leaves_a_gap(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(4)
    source = open_source(f"folder:{folder}")
    (folder / "002.jpg").unlink()
    gallery = make_gallery("val", source, embeddings(4))
    pictures = {result.text: result.image for result in gallery.text_to_image[0].results}
    assert [text for text, image in pictures.items() if not image] == ["picture 2 caption 0"]


def test_pictures_come_back_and_the_draw_repeats(tmp_path: object) -> None:
    source, vectors = open_source("scenes:20"), embeddings(20)
    gallery = make_gallery("val", source, vectors)
    assert make_gallery("val", source, vectors) == gallery
    assert make_gallery("val", source, vectors, seed=1) != gallery
    write_gallery(gallery, tmp_path)  # type: ignore[arg-type]
    assert read_gallery(tmp_path) == gallery  # type: ignore[arg-type]


def test_images_left_out_do_not_shift_the_captions() -> None:
    source = open_source("scenes:10")
    vectors = embeddings(4)
    chosen = Embeddings(vectors.images, vectors.texts, vectors.text_images, np.array([1, 4, 5, 9]), [])
    gallery = make_gallery("val", source, chosen)
    allowed = {caption for index in (1, 4, 5, 9) for caption in source.captions(index)}
    assert {example.query_text for example in gallery.text_to_image} <= allowed


def test_a_pictures_copies_keep_their_own_captions_apart() -> None:
    source, vectors = open_source("scenes:10"), embeddings(10)
    pictures = np.arange(10)
    pictures[[6, 9]] = [2, 0]  # copies of earlier ones, by their bytes
    copied = replace(vectors, pictures=pictures)
    gallery = make_gallery("val", source, copied, num_image_queries=10)
    assert (gallery.num_images, len(gallery.image_to_text)) == (8, 8)
    captions = [caption for index in range(10) for caption in source.captions(index)]
    for example in gallery.text_to_image:
        text = captions.index(example.query_text)
        right = pictures[vectors.text_images[text]]
        scores = vectors.images[[*range(6), 7, 8]] @ vectors.texts[text]
        assert example.rank == (scores >= vectors.images[right] @ vectors.texts[text] - TIE).sum()
    shown = {result.text for example in gallery.image_to_text for result in example.results}
    assert shown <= set(captions)
    found = find_images(source, copied, ["x"], vectors.texts[:1])
    assert len({result.text for result in found[0].results}) == 5


def test_a_damaged_gallery_is_a_users_error(tmp_path: object) -> None:
    (tmp_path / "gallery.json").write_text("{}")  # type: ignore[operator]
    with pytest.raises(UserError, match="the gallery is damaged"):
        read_gallery(tmp_path)  # type: ignore[arg-type]
