"""Drawn pairs: sentences are what they claim to be, and nothing but both images with the sentence tells the answer."""

from collections import Counter

import pytest

from pocketclip.data import open_source
from pocketclip.data.sources.scene_pairs import FORMS, PAIRS_PER_SENTENCE, TOTALS, Example, Fact, make_block
from pocketclip.data.sources.scene_world import COLOURS, RELATIONS, SHAPES, Group, Scene, World
from pocketclip.errors import UserError

BLOCKS = range(60)
NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5}


def parse_group(words: list[str]) -> Group:
    count, colour, noun = words
    shape = next(shape for shape in SHAPES if noun.startswith(shape))
    assert colour in COLOURS
    return Group(NUMBERS[count], "small", colour, shape)


def parse_fact(text: str) -> Fact:
    words = text.split()
    if len(words) == 3:
        return Fact(parse_group(words))
    return Fact(parse_group(words[:3]), " ".join(words[3:-3]), parse_group(words[-3:]))


def count_shapes(scene: Scene, colour: str, shape: str) -> int:
    return sum(g.count for g in (scene.first, scene.second) if (g.colour, g.shape) == (colour, shape))


def holds(fact: Fact, scene: Scene) -> bool:
    """Whether a scene shows a fact."""
    if fact.other is None:
        return any(group.without_size == fact.group.without_size for group in (scene.first, scene.second))
    facts = ((scene.first, scene.relation, scene.second), (scene.second, RELATIONS[scene.relation], scene.first))
    wanted = (fact.group.without_size, fact.relation, fact.other.without_size)
    return any((one.without_size, relation, other.without_size) == wanted for one, relation, other in facts)


def is_true(example: Example) -> bool:
    """An oracle that reads the sentence alone."""
    sentence, scenes = example.sentence, (example.left, example.right)
    text, place = sentence.split(" ", 2)[2].rsplit(" in ", 1)
    if place == "total":
        group = parse_group(text.split())
        return sum(count_shapes(scene, group.colour, group.shape) for scene in scenes) == group.count
    left, right = (holds(parse_fact(text), scene) for scene in scenes)
    return {
        "the left image": left,
        "the right image": right,
        "exactly one image": left != right,
        "both images": left and right,
    }[place]


@pytest.mark.parametrize("seed", [0, 7])
def test_labels_are_right(seed: int) -> None:
    for number in BLOCKS:
        for example in make_block(seed, number):
            assert is_true(example) == example.label, example


def test_every_form_and_aspect_occurs() -> None:
    sentences = [example.sentence for number in BLOCKS for example in make_block(0, number)]
    for part in ("the left image", "the right image", "exactly one image", "both images", "in total", " above "):
        assert any(part in sentence for sentence in sentences), part
    assert len(FORMS) * PAIRS_PER_SENTENCE * 2 <= len(sentences)
    assert set(TOTALS.values()) == {"three", "four", "five"}


def test_neither_a_sentence_nor_an_image_tells_the_answer() -> None:
    """Each sentence has two true and two false pairs; each scene of a block is in as many true as false examples."""
    for number in BLOCKS:
        sentences: Counter[str] = Counter()
        images: Counter[Scene] = Counter()
        for example in make_block(3, number):
            sign = 1 if example.label else -1
            sentences[example.sentence] += sign
            for scene in (example.left, example.right):
                images[scene] += sign
        assert set(sentences.values()) == {0}
        assert set(images.values()) == {0}


def test_the_source_is_one_of_pairs() -> None:
    source = open_source("scene_pairs:16,seed=2,image_size=32")
    assert source.pairs is not None
    assert (len(source), source.images_per_example) == (32, 2)
    assert source.pairs.labels.tolist() == [True, False] * 8
    assert source.pairs.sentences.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    left, right = source[10], source[11]
    assert left.captions == right.captions == source.captions(10)
    assert (left.key, right.key, left.label) == ("pair-000005-left", "pair-000005-right", 0)
    assert left.image != right.image
    assert open_source("scenes:4").images_per_example == 1


def test_seeds_differ_and_a_seed_does_not() -> None:
    first, again, other = (open_source(f"scene_pairs:8,seed={seed}") for seed in (0, 0, 1))
    assert first[3].image == again[3].image
    assert first[3].image != other[3].image
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_the_count_is_of_whole_blocks() -> None:
    with pytest.raises(UserError, match="multiple of 8"):
        open_source("scene_pairs:12")


def test_a_smaller_world_has_the_first_colours_and_shapes() -> None:
    world = World(3, 2)
    scenes = [s for number in BLOCKS for e in make_block(1, number, world) for s in (e.left, e.right)]
    groups = [group for scene in scenes for group in (scene.first, scene.second)]
    assert {group.colour for group in groups} == set(list(COLOURS)[:3])
    assert {group.shape for group in groups} == set(SHAPES[:2])
    for number in BLOCKS:
        assert all(is_true(example) == example.label for example in make_block(1, number, world))
    small, whole = open_source("scene_pairs:8,num_colours=3,num_shapes=2"), open_source("scene_pairs:8")
    assert small.fingerprint() != whole.fingerprint()


def test_a_sentence_begins_with_a_fact_as_single_scenes_state_it() -> None:
    """So a model of single scenes knows all of a sentence but the words that tell which image it speaks of."""
    for number in BLOCKS:
        for example in make_block(5, number):
            fact, place = example.sentence.rsplit(" in ", 1)
            shown = [fact in scene.facts for scene in (example.left, example.right)]
            if place == "exactly one image":
                assert (sum(shown) == 1) == example.label
            elif place != "total":
                wanted = {"the left image": shown[0], "the right image": shown[1], "both images": all(shown)}
                assert wanted[place] == example.label
