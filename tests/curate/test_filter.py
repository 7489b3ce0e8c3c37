"""Rules for what is worth keeping, against a loop that keeps samples in plain lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import encode_picture
from pocketclip.curate.filter import FilterConfig, judge
from pocketclip.curate.signals import Signals, measure
from pocketclip.data import open_source
from pocketclip.errors import UserError
from pocketclip.features.encode import Embeddings
from pocketclip.stages.store import Block


def rules(**values: Any) -> FilterConfig:
    return FilterConfig.parse(values, place="filter")


# Rules


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "no rule is given"),
        ({"min_similarity": 0.2, "keep_share": 0.5}, "give one of them"),
        ({"min_caption_words": 5, "max_caption_words": 4}, "min_caption_words 5 is above max_caption_words 4"),
        ({"max_aspect_ratio": 0.5}, "max_aspect_ratio"),
        ({"keep_share": 1.0}, "keep_share"),
        ({"min_image_side": 0}, "min_image_side"),
        ({"min_side": 5}, "unknown key 'min_side'. Did you mean 'min_image_side'?"),
    ],
)
def test_rules_that_make_no_sense_are_explained(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        rules(**values)
    assert reason in str(caught.value)


# Measuring


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    """Six pictures with two captions: 1 is the same file as 0, 2 is broken, 3 is wide, 4 has none."""
    folder = make_folder(6, 2)
    (folder / "001.jpg").write_bytes((folder / "000.jpg").read_bytes())
    (folder / "002.jpg").write_bytes(encode_picture(2)[:50])
    (folder / "003.png").write_bytes(encode_picture(3, (100, 20), "PNG"))
    (folder / "003.jpg").unlink()
    (folder / "004.txt").write_text("\n")
    (folder / "005.txt").write_text("A dog.\na DOG\nthree words here")
    return folder


def test_sizes_words_and_identities_are_those_of_the_samples(folder: Path) -> None:
    block = measure(open_source(f"folder:{folder}"), 0, 6)
    found = Signals(**block.arrays)
    assert found.indices.tolist() == [0, 1, 3, 4, 5]
    assert found.sides.tolist() == [[32, 24], [32, 24], [100, 20], [32, 24], [32, 24]]
    assert found.counts.tolist() == [2, 2, 2, 0, 3]
    assert found.words.tolist() == [4] * 6 + [2, 2, 3]
    first, second, *others = found.image_ids.tolist()
    assert first == second
    assert len({first, *others}) == 4
    assert found.caption_ids[-3] == found.caption_ids[-2] != found.caption_ids[-1]
    assert len(found.similarities) == 0
    assert len(block.broken) == 1
    assert "002.jpg" in block.broken[0]


def test_measuring_in_blocks_gives_the_whole(folder: Path) -> None:
    source = open_source(f"folder:{folder}")
    whole = Signals(**measure(source, 0, 6).arrays)
    parts = Signals(**Block.join(measure(source, start, min(start + 2, 6)) for start in range(0, 6, 2)).arrays)
    for name in Signals.__dataclass_fields__:
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name


def test_similarities_are_those_of_each_caption_to_its_own_image(folder: Path) -> None:
    random = np.random.default_rng(0)
    counts = [2, 2, 2, 0, 3]
    images, texts = (random.normal(size=(rows, 8)).astype(np.float32) for rows in (5, 9))
    embeddings = Embeddings(images, texts, np.repeat(np.arange(5), counts), np.array([0, 1, 3, 4, 5]), ["2: broken"])
    asked = []

    def embed(start: int, stop: int) -> Embeddings:
        asked.append((start, stop))
        return embeddings

    block = measure(open_source(f"folder:{folder}"), 0, 6, embed)
    wanted = [np.dot(images[owner], text) for owner, text in zip(embeddings.text_images, texts, strict=True)]
    assert asked == [(0, 6)]
    np.testing.assert_allclose(block.arrays["similarities"], wanted, rtol=1e-5)
    assert block.arrays["similarities"].dtype == np.float32
    assert block.arrays["sides"].tolist()[2] == [100, 20]
    assert block.broken == ["2: broken"]


# Verdicts


def measured(random: np.random.Generator, num_images: int) -> Signals:
    """Small numbers, so that everything repeats and ties."""
    counts = random.integers(0, 4, num_images)
    num_captions = int(counts.sum())
    return Signals(
        indices=np.cumsum(random.integers(1, 3, num_images)),
        sides=random.integers(1, 9, (num_images, 2)),
        image_ids=random.integers(0, 2 * num_images, num_images),
        counts=counts,
        words=random.integers(1, 8, num_captions),
        caption_ids=random.integers(0, 2 * num_captions + 1, num_captions),
        similarities=random.integers(-4, 5, num_captions).astype(np.float32) / 4,
    )


def slow_verdict(found: Signals, config: FilterConfig) -> tuple[list[int], list[list[int]], dict[str, int]]:
    """Kept images, the places of their kept captions, and what each rule dropped."""
    place, samples = 0, []
    for row, index in enumerate(found.indices.tolist()):
        captions = list(range(place, place + int(found.counts[row])))
        samples.append({"row": row, "index": index, "captions": captions})
        place += len(captions)
    dropped: dict[str, int] = {}

    def drop_images(rule: str, is_bad: Callable[[int], bool]) -> None:
        bad = [sample for sample in samples if is_bad(sample["row"])]
        dropped[rule] = len(bad)
        samples[:] = [sample for sample in samples if sample not in bad]

    def drop_captions(rule: str, is_bad: Callable[[int], bool]) -> None:
        dropped[rule] = 0
        for sample in samples:
            bad = [caption for caption in sample["captions"] if is_bad(caption)]
            dropped[rule] += len(bad)
            sample["captions"] = [caption for caption in sample["captions"] if caption not in bad]

    def seen_before() -> Callable[[int], bool]:
        seen: set[int] = set()
        return lambda identity: identity in seen or bool(seen.add(identity))

    values = config.model_dump(exclude_defaults=True)
    width, height = found.sides[:, 0], found.sides[:, 1]
    if "min_image_side" in values:
        drop_images("min_image_side", lambda row: min(width[row], height[row]) < values["min_image_side"])
    if "max_aspect_ratio" in values:
        drop_images(
            "max_aspect_ratio",
            lambda row: max(width[row], height[row]) / min(width[row], height[row]) > values["max_aspect_ratio"],
        )
    if "drop_duplicate_images" in values:
        again = seen_before()
        drop_images("drop_duplicate_images", lambda row: again(int(found.image_ids[row])))
    if "min_caption_words" in values:
        drop_captions("min_caption_words", lambda caption: found.words[caption] < values["min_caption_words"])
    if "max_caption_words" in values:
        drop_captions("max_caption_words", lambda caption: found.words[caption] > values["max_caption_words"])
    if "drop_duplicate_captions" in values:
        known = seen_before()
        drop_captions("drop_duplicate_captions", lambda caption: known(int(found.caption_ids[caption])))
    if "min_similarity" in values:
        drop_captions("min_similarity", lambda caption: found.similarities[caption] < values["min_similarity"])
    if "keep_share" in values:
        left = sorted(
            (caption for sample in samples for caption in sample["captions"]),
            key=lambda caption: (-found.similarities[caption], caption),
        )
        best = left[: max(1, round(values["keep_share"] * len(left)))]
        drop_captions("keep_share", lambda caption: caption not in best)
    if any("caption" in key or key in ("min_similarity", "keep_share") for key in values):
        bare = {sample["row"] for sample in samples if not sample["captions"]}
        drop_images("no_caption_left", lambda row: row in bare)
    return [sample["index"] for sample in samples], [sample["captions"] for sample in samples], dropped


SETS: list[dict[str, Any]] = [
    {"min_image_side": 3},
    {"max_aspect_ratio": 2.0},
    {"drop_duplicate_images": True},
    {"min_caption_words": 3, "max_caption_words": 5},
    {"drop_duplicate_captions": True},
    {"min_similarity": 0.25},
    {"keep_share": 0.3},
    {"min_image_side": 2, "drop_duplicate_images": True, "drop_duplicate_captions": True, "keep_share": 0.6},
    {
        "min_image_side": 2,
        "max_aspect_ratio": 3.0,
        "drop_duplicate_images": True,
        "min_caption_words": 2,
        "max_caption_words": 6,
        "drop_duplicate_captions": True,
        "min_similarity": -0.5,
    },
]


@pytest.mark.parametrize("values", SETS)
@pytest.mark.parametrize("seed", range(5))
def test_verdicts_equal_a_loop_over_the_samples(values: dict[str, Any], seed: int) -> None:
    found = measured(np.random.default_rng(seed), 30)
    verdict = judge(found, rules(**values))
    indices, captions, dropped = slow_verdict(found, rules(**values))
    assert verdict.selection.indices.tolist() == indices
    assert {**verdict.dropped_images, **verdict.dropped_captions} == dropped
    kept_rows = [found.indices.tolist().index(index) for index in indices]
    assert verdict.selection.counts.tolist() == found.counts[kept_rows].tolist()
    firsts = np.cumsum(found.counts) - found.counts
    masks = [
        [int(firsts[row]) + number in kept for number in range(int(found.counts[row]))]
        for row, kept in zip(kept_rows, captions, strict=True)
    ]
    assert verdict.selection.captions.tolist() == [value for mask in masks for value in mask]


def test_images_without_captions_stay_where_no_rule_is_about_captions() -> None:
    found = measured(np.random.default_rng(1), 30)
    assert (found.counts == 0).any()
    assert (judge(found, rules(min_image_side=1)).selection.counts == 0).any()
    assert (judge(found, rules(min_image_side=1, min_caption_words=1)).selection.counts > 0).all()


def test_of_a_duplicate_whose_first_was_dropped_the_second_stays() -> None:
    found = Signals(
        indices=np.array([0, 1]),
        sides=np.array([[5, 5], [50, 50]]),
        image_ids=np.array([7, 7]),
        counts=np.array([1, 1]),
        words=np.array([3, 3]),
        caption_ids=np.array([9, 9]),
        similarities=np.zeros(0, np.float32),
    )
    config = rules(min_image_side=10, drop_duplicate_images=True, drop_duplicate_captions=True)
    verdict = judge(found, config)
    assert verdict.selection.indices.tolist() == [1]
    assert verdict.dropped_images == {"min_image_side": 1, "drop_duplicate_images": 0, "no_caption_left": 0}
    assert verdict.dropped_captions == {"drop_duplicate_captions": 0}


def test_nothing_to_judge_is_no_error() -> None:
    empty = measured(np.random.default_rng(0), 0)
    for values in SETS:
        assert len(judge(empty, rules(**values)).selection) == 0
