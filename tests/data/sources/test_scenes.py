import itertools

import numpy as np
import numpy.typing as npt
import pytest

from pocketclip.data import open_source
from pocketclip.data.sources.scene_world import (
    COLOURS,
    COUNTS,
    NUM_SCENES,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    LoneGroup,
    Scene,
)
from pocketclip.data.sources.scenes import ScenesSource
from pocketclip.errors import UserError
from pocketclip.preprocess import decode_image


def scenes(spec: str) -> ScenesSource:
    source = open_source(spec)
    assert isinstance(source, ScenesSource)
    return source


def drawn(source: ScenesSource, index: int) -> npt.NDArray[np.uint8]:
    return np.asarray(decode_image(source[index].image, place=""))


def coloured(pixels: npt.NDArray[np.uint8], colour: str) -> npt.NDArray[np.bool_]:
    """Where a picture has exactly this colour: all but the smoothed edges."""
    return (pixels == COLOURS[colour]).all(axis=-1)


# Scenes


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_every_number_is_a_different_scene(seed: int) -> None:
    source = scenes(f"scenes:20000,seed={seed}")
    assert len({source.scene(index) for index in range(20_000)}) == 20_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_largest_source_has_every_scene_once(seed: int) -> None:
    source = scenes(f"scenes:{NUM_SCENES},seed={seed}")
    assert len({source.scene(index) for index in range(NUM_SCENES)}) == NUM_SCENES


def test_there_are_as_many_scenes_as_ways_to_combine_two_groups() -> None:
    groups = list(itertools.product(COUNTS, SIZES, COLOURS, SHAPES))
    assert len(list(itertools.product(groups, groups, RELATIONS))) == NUM_SCENES


def test_more_scenes_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=rf"count: .*less than or equal to {NUM_SCENES} \(got '{NUM_SCENES + 1}'\)"):
        open_source(f"scenes:{NUM_SCENES + 1}")


def test_a_small_source_has_every_colour_shape_size_count_and_relation() -> None:
    found = [scenes("scenes:500").scene(index) for index in range(500)]
    groups = [group for scene in found for group in (scene.first, scene.second)]
    assert {group.colour for group in groups} == set(COLOURS)
    assert {group.shape for group in groups} == set(SHAPES)
    assert {group.size for group in groups} == set(SIZES)
    assert {group.count for group in groups} == {1, 2, 3}
    assert {scene.relation for scene in found} == set(RELATIONS)


def test_another_seed_gives_other_scenes_first() -> None:
    first, second = (scenes(f"scenes:100,seed={seed}") for seed in (0, 1))
    shared = {first.scene(index) for index in range(100)} & {second.scene(index) for index in range(100)}
    assert len(shared) < 5


@pytest.mark.parametrize("index", [3, 4, -1])
def test_a_number_outside_the_source_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        scenes("scenes:3")[index]


# Captions


def test_captions_say_what_a_scene_shows() -> None:
    scene = Scene(Group(2, "small", "red", "cross"), Group(1, "large", "blue", "square"), "above")
    assert scene.captions == (
        "two small red crosses above a large blue square",
        "a large blue square below two small red crosses",
        "two small red crosses",
        "a large blue square",
    )
    beside = Scene(Group(3, "large", "pink", "star"), Group(1, "small", "black", "circle"), "left of")
    assert beside.captions[:2] == (
        "three large pink stars left of a small black circle",
        "a small black circle right of three large pink stars",
    )


def test_the_captions_of_a_sample_are_true_of_its_scene_alone() -> None:
    source = scenes("scenes:5000")
    owners: dict[str, int] = {}
    for index in range(5000):
        captions = source.captions(index)
        assert len(captions) == 2
        for caption in captions:
            assert owners.setdefault(caption, index) == index


def test_facts_leave_sizes_out_and_say_everything_else() -> None:
    scene = Scene(Group(2, "small", "red", "cross"), Group(1, "large", "orange", "square"), "left of")
    assert scene.facts == (
        "there are two red crosses",
        "there is an orange square",
        "there are two red crosses on the left",
        "there is an orange square on the right",
        "there are two red crosses left of an orange square",
        "there is an orange square right of two red crosses",
    )
    source = scenes("scenes:20,texts=facts")
    assert all(source.captions(index) == source[index].captions == source.scene(index).facts for index in range(20))


def test_twins_show_the_same_groups_exchanged() -> None:
    source = scenes("scenes:40,twinned=true,texts=facts")
    assert source.images_per_example == 2
    for index in range(0, 40, 2):
        scene, twin = source.scene(index), source.scene(index + 1)
        assert (twin.first, twin.second, twin.relation) == (scene.second, scene.first, scene.relation)
        if scene.first.without_size != scene.second.without_size:
            assert not set(scene.facts[2:]) & set(twin.facts[2:])


def test_every_second_example_is_a_group_alone() -> None:
    source = scenes("scenes:400,twinned=true,texts=facts,lone_groups=true,image_size=64,num_colours=4,num_shapes=3")
    kinds, places = set(), set()
    for index in range(0, 400, 4):
        assert {type(source.scene(index + twin)) for twin in range(2)} == {Scene}
        lone, twin = source.scene(index + 2), source.scene(index + 3)
        assert isinstance(lone, LoneGroup)
        assert isinstance(twin, LoneGroup)
        assert source.captions(index + 2) == (lone.first.statement, f"{lone.first.statement} {lone.place}")
        assert (twin.first, {lone.place, twin.place}) in [(lone.first, set(pair)) for pair in PLACES.values()]
        kinds.add((lone.first.count, lone.first.size, lone.first.colour))
        places.add(lone.place)
        pixels = coloured(drawn(source, index + 2), lone.first.colour)
        half = {"top": pixels[:32], "bottom": pixels[32:], "left": pixels[:, :32], "right": pixels[:, 32:]}
        assert half[lone.place.split()[-1]].sum() == pixels.sum() > 0
    assert (len(kinds), len(places)) == (24, 4)


def test_lone_groups_need_facts() -> None:
    with pytest.raises(UserError, match="lone_groups goes with texts: facts"):
        open_source("scenes:8,lone_groups=true")


def test_only_whole_twins_and_only_what_there_is() -> None:
    with pytest.raises(UserError, match=r"should be even, for twins \(got 5\)"):
        open_source("scenes:5,twinned=true")
    with pytest.raises(UserError, match=r"there are 1152 scenes of 2 colours and 2 shapes \(got 1153\)"):
        open_source("scenes:1153,num_colours=2,num_shapes=2")
    source = scenes("scenes:1152,num_colours=2,num_shapes=2")
    assert len({source.scene(index) for index in range(1152)}) == 1152


def matches(scene: Scene, caption: str) -> bool:
    """Whether a caption of any scene is true of this one."""
    return caption in scene.captions


def test_matches_tells_whole_captions_from_shared_ones() -> None:
    red, blue = Group(1, "small", "red", "star"), Group(1, "large", "blue", "square")
    scene, mirrored, beside = Scene(red, blue, "above"), Scene(blue, red, "above"), Scene(red, blue, "left of")
    assert all(matches(scene, caption) for caption in scene.captions)
    for other in (mirrored, beside, Scene(red, red, "above")):
        assert not any(matches(other, caption) for caption in scene.captions[:2])
    assert matches(mirrored, str(red))
    assert matches(beside, str(blue))
    assert not matches(Scene(red, red, "above"), str(blue))


# Pictures


def halves(pixels: npt.NDArray[np.uint8], scene: Scene) -> list[npt.NDArray[np.uint8]]:
    """The parts that belong to the first and second group, turned so that each group's shapes stand side by side."""
    across = pixels if scene.relation == "above" else pixels.transpose(1, 0, 2)
    return np.split(across, 2)


@pytest.mark.parametrize("image_size", [64, 160])
def test_a_drawing_shows_the_colour_of_each_group_in_its_own_half(image_size: int) -> None:
    source = scenes(f"scenes:100,image_size={image_size}")
    for index in range(100):
        scene = source.scene(index)
        for group, half in zip((scene.first, scene.second), halves(drawn(source, index), scene), strict=True):
            assert {colour for colour in COLOURS if coloured(half, colour).any()} == {group.colour}


def test_a_drawing_shows_as_many_shapes_as_it_says() -> None:
    source = scenes("scenes:100,image_size=160")
    for index in range(100):
        scene = source.scene(index)
        for group, half in zip((scene.first, scene.second), halves(drawn(source, index), scene), strict=True):
            filled = coloured(half, group.colour).any(axis=0).astype(int)
            assert np.count_nonzero(np.diff(filled, prepend=0) == 1) == group.count


@pytest.mark.parametrize("shape", SHAPES)
def test_large_shapes_are_larger(shape: str) -> None:
    source = scenes("scenes:1000,image_size=128")
    areas: dict[str, list[int]] = {size: [] for size in SIZES}
    for index in range(1000):
        scene = source.scene(index)
        if scene.first.shape == shape and scene.first.count == 1 and scene.first.colour != scene.second.colour:
            areas[scene.first.size].append(int(coloured(drawn(source, index), scene.first.colour).sum()))
    assert len(areas["small"]) > 5
    assert len(areas["large"]) > 5
    assert max(areas["small"]) < 0.5 * min(areas["large"])


def test_shapes_of_one_size_and_colour_are_told_apart() -> None:
    source = scenes("scenes:20000,image_size=64")
    pictures = {}
    for index in range(20_000):
        scene = source.scene(index)
        if (scene.first.size, scene.first.count, scene.relation) == ("large", 1, "above"):
            pictures.setdefault(scene.first.shape, coloured(drawn(source, index)[:32], scene.first.colour))
        if len(pictures) == len(SHAPES):
            break
    assert set(pictures) == set(SHAPES)
    for one, other in itertools.combinations(SHAPES, 2):
        assert (pictures[one] != pictures[other]).mean() > 0.01


@pytest.mark.parametrize("image_size", [16, 64, 100])
def test_pictures_are_square_and_of_the_asked_size(image_size: int) -> None:
    assert drawn(scenes(f"scenes:2,image_size={image_size}"), 1).shape == (image_size, image_size, 3)


def test_the_same_seed_gives_the_same_bytes_captions_and_keys() -> None:
    first, second = scenes("scenes:30,seed=4"), scenes("scenes:30,seed=4")
    assert [first[index] for index in range(30)] == [second[index] for index in reversed(range(30))][::-1]
    assert first.fingerprint() == second.fingerprint()
    assert len({first[index].key for index in range(30)}) == 30


ADDED = [
    f"scenes:30,seed=4,{one}"
    for one in ("texts=facts", "num_colours=7", "num_shapes=4", "texts=facts,lone_groups=true")
]


@pytest.mark.parametrize("other", ["scenes:31,seed=4", "scenes:30,seed=5", "scenes:30,seed=4,image_size=65", *ADDED])
def test_every_setting_is_in_the_fingerprint(other: str) -> None:
    assert scenes("scenes:30,seed=4").fingerprint() != scenes(other).fingerprint()


def test_a_larger_source_begins_with_the_same_scenes() -> None:
    small, large = scenes("scenes:10"), scenes("scenes:1000")
    assert [small[index].image for index in range(10)] == [large[index].image for index in range(10)]


@pytest.mark.parametrize("settings", ["", ",twinned=true"])
def test_the_false_caption_of_a_scene_is_true_of_its_twin_alone(settings: str) -> None:
    source = open_source(f"scenes:200{settings},texts=choices")
    assert isinstance(source, ScenesSource)
    assert source.choices is not None
    assert source.choices.twins == bool(settings)
    for index in source.choices.samples.tolist():
        scene = source.scene(index)
        assert isinstance(scene, Scene)
        true, false = source.captions(index)
        assert true in scene.captions
        assert false in scene.exchanged.captions
        assert false not in scene.captions
        if settings:
            assert source.captions(index ^ 1) == (false, true)
    left_out = set(range(200)) - set(source.choices.samples.tolist())
    assert all(scene.first == scene.second for scene in map(source.scene, left_out) if isinstance(scene, Scene))


def test_false_captions_leave_other_scenes_as_they_were() -> None:
    plain, choices = open_source("scenes:20"), open_source("scenes:20,texts=choices")
    assert [plain[index].image for index in range(20)] == [choices[index].image for index in range(20)]
    assert [plain.captions(index)[0] for index in range(20)] == [choices.captions(index)[0] for index in range(20)]
    assert plain.fingerprint() != choices.fingerprint()
