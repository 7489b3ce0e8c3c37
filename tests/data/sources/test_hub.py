import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.keys import content_id
from pocketclip.data.source import Source
from pocketclip.data.sources.hub import HubSource
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import decode_image

datasets: Any = pytest.importorskip("datasets")


def picture(number: int) -> Image.Image:
    return Image.open(io.BytesIO(encode_picture(number, (12, 10), "PNG")))


def dataset(captions: Sequence[Any], image: str = "image", caption: str = "caption") -> Any:
    """A data set in memory, one picture a row."""
    return datasets.Dataset.from_dict({image: [picture(number) for number in range(len(captions))], caption: captions})


# Samples


def test_rows_give_their_picture_and_caption() -> None:
    source = HubSource.from_dataset(dataset(["a dog", " a  cat\n"]))
    assert isinstance(source, Source)
    assert len(source) == 2
    for number, caption in enumerate(("a dog", "a cat")):
        sample = source[number]
        assert sample.captions == source.captions(number) == (caption,)
        pixels = np.asarray(decode_image(sample.image, place=sample.place))
        assert np.array_equal(pixels, np.asarray(picture(number)))
        assert sample.place == f"hub:memory: row {number}"
    assert source[0].key != source[1].key


def test_a_row_may_have_several_captions() -> None:
    source = HubSource.from_dataset(dataset([["a dog", "", "a brown dog"], ["a cat"], []]))
    assert [source.captions(number) for number in range(3)] == [("a dog", "a brown dog"), ("a cat",), ()]
    assert source[0].captions == ("a dog", "a brown dog")


def test_a_row_without_a_caption_has_none() -> None:
    source = HubSource.from_dataset(dataset(["a dog", None, "  "]))
    assert [source.captions(number) for number in range(3)] == [("a dog",), (), ()]


def test_pictures_stay_encoded_as_they_were_stored() -> None:
    stored = [encode_picture(number) for number in range(2)]
    rows = datasets.Dataset.from_dict({"image": [{"bytes": data, "path": None} for data in stored], "text": ["a", "b"]})
    source = HubSource.from_dataset(rows.cast_column("image", datasets.Image()))
    assert [source[number].image for number in range(2)] == stored


def test_pictures_may_be_paths(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(encode_picture(number))
    paths = [str(tmp_path / f"{number}.jpg") for number in (1, 0)]
    source = HubSource.from_dataset(datasets.Dataset.from_dict({"image": paths, "caption": ["b", "a"]}))
    assert [source[number].image for number in range(2)] == [encode_picture(1), encode_picture(0)]


def test_a_missing_picture_file_is_a_broken_item(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"image": [str(tmp_path / "none.jpg")], "caption": ["a dog"]})
    source = HubSource.from_dataset(rows)
    with pytest.raises(BrokenItemError, match=r"row 0: cannot read .*none\.jpg \(No such file or directory\)"):
        source[0]
    assert source.captions(0) == ("a dog",)


def test_a_row_without_a_picture_is_a_broken_item() -> None:
    rows = datasets.Dataset.from_dict({"image": [picture(0), None], "caption": ["a", "b"]})
    sample = HubSource.from_dataset(rows)[1]
    with pytest.raises(BrokenItemError, match="row 1: the file is empty"):
        decode_image(sample.image, place=sample.place)


def test_a_row_that_is_not_there_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        HubSource.from_dataset(dataset(["a"]))[1]


# Columns


@pytest.mark.parametrize(("image", "caption"), [("image", "text"), ("jpg", "txt"), ("image", "captions")])
def test_columns_of_usual_names_are_found(image: str, caption: str) -> None:
    source = HubSource.from_dataset(dataset(["a dog"], image, caption))
    assert source[0].captions == ("a dog",)


def test_columns_may_be_named() -> None:
    rows = dataset(["a dog"], "photo", "sentence_en").add_column("caption", ["un chien"])
    source = HubSource.from_dataset(rows, image="photo", caption="sentence_en")
    assert source[0].captions == ("a dog",)


@pytest.mark.parametrize(
    ("names", "wanted", "reason"),
    [
        (("photo", "caption"), {}, "no column that looks like the image. Columns: photo, caption. .* image=COLUMN"),
        (("image", "words"), {}, "no column that looks like the caption. Columns: image, words. .* caption=COLUMN"),
        (("image", "caption"), {"image": "photo"}, "no column 'photo'. Columns: image, caption. .* image=COLUMN"),
        (("image", "caption"), {"caption": "text"}, "no column 'text'. Columns: image, caption. .* caption=COLUMN"),
    ],
)
def test_a_missing_column_is_named_with_those_there_are(
    names: tuple[str, str], wanted: dict[str, str], reason: str
) -> None:
    with pytest.raises(UserError, match=f"^hub:mine: {reason}"):
        HubSource.from_dataset(dataset(["a dog"], *names), name="hub:mine", **wanted)


@pytest.mark.parametrize("captions", [[{"raw": "a", "tokens": "b"}] * 2, [[{"raw": "a"}], [{"raw": "a"}]]])
def test_an_object_gives_its_text(captions: list[Any]) -> None:
    assert HubSource.from_dataset(dataset(captions)).captions(0) == ("a",)


def test_rows_of_equal_pictures_are_one_sample() -> None:
    rows = [{"bytes": encode_picture(number), "path": None} for number in (1, 2, 1)]
    data = datasets.Dataset.from_dict({"image": rows, "caption": ["one", "two", "three"]})
    source = HubSource.from_dataset(data.cast_column("image", datasets.Image()))
    assert [source.captions(number) for number in range(len(source))] == [("one", "three"), ("two",)]
    assert source.picture_id(1) == content_id(source[1].image)


@pytest.mark.parametrize("captions", [[1, 2], [[1], [2]], [{"tokens": "b"}] * 2, [True, False]])
def test_a_caption_column_that_is_not_text_is_named(captions: list[Any]) -> None:
    with pytest.raises(UserError, match=r"hub:memory: .*caption"):
        HubSource.from_dataset(dataset(captions)).captions(0)


def test_a_missing_caption_among_others_is_left_out() -> None:
    assert HubSource.from_dataset(dataset([["a", None], [None]])).captions(0) == ("a",)


def test_an_image_column_that_holds_no_images_is_named() -> None:
    rows = datasets.Dataset.from_dict({"image": [1, 2], "caption": ["a", "b"]})
    with pytest.raises(UserError, match="image"):
        HubSource.from_dataset(rows)


# Fingerprints


def test_the_same_rows_have_the_same_fingerprint() -> None:
    first, second = (HubSource.from_dataset(dataset(["a", "b"])) for _ in range(2))
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.select([1, 0]),
        lambda rows: rows.select([0]),
        lambda rows: rows.map(lambda row: {"caption": row["caption"] + "!"}),
        lambda rows: rows.remove_columns("caption").add_column("caption", ["a", "c"]),
        lambda rows: rows.rename_column("caption", "text"),
    ],
    ids=["order", "fewer", "map", "replaced", "renamed"],
)
def test_a_fingerprint_follows_every_change(change: Callable[[Any], Any]) -> None:
    rows = dataset(["a", "b"])
    assert HubSource.from_dataset(change(rows)).fingerprint() != HubSource.from_dataset(rows).fingerprint()


def test_another_caption_column_is_another_source() -> None:
    rows = dataset(["a", "b"]).add_column("text", ["c", "d"])
    prints = {HubSource.from_dataset(rows, caption=name).fingerprint() for name in ("caption", "text")}
    assert len(prints) == 2


# Opening by name


@pytest.fixture
def own_datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.mark.usefixtures("own_datasets_cache")
def test_a_local_folder_opens_by_its_split(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    dataset(["a dog", "a cat"]).to_parquet(folder / "train.parquet")
    dataset(["a bird"]).to_parquet(folder / "test.parquet")
    source = open_source(f"hub:{folder}")
    assert source.name == f"hub:{folder}#train"
    assert [source[number].captions for number in range(2)] == [("a dog",), ("a cat",)]
    assert decode_image(source[0].image, place="").size == (12, 10)
    other = open_source(f"hub:{folder},split=test")
    assert [other[number].captions for number in range(len(other))] == [("a bird",)]
    assert other.fingerprint() != source.fingerprint()


@pytest.mark.usefixtures("own_datasets_cache")
def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    dataset(["a dog"]).to_parquet(folder / "train.parquet")
    with pytest.raises(UserError, match=rf"hub:{folder}: cannot load split 'val' \(.*val"):
        open_source(f"hub:{folder},split=val")


@pytest.mark.usefixtures("own_datasets_cache")
def test_a_data_set_that_cannot_be_loaded_is_named() -> None:
    with pytest.raises(UserError, match="hub:nobody/nothing: cannot load split 'train'"):
        open_source("hub:nobody/nothing")
