import csv
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.preprocess import decode_image


@pytest.fixture(autouse=True)
def pictures_beside_the_table(tmp_path: Path) -> None:
    for number, name in enumerate(("a.jpg", "b.jpg")):
        (tmp_path / name).write_bytes(encode_picture(10 + number))


def write_csv(folder: Path, text: str | bytes, name: str = "pairs.csv") -> str:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return f"csv:{folder / name}"


def write_jsonl(folder: Path, *rows: Any) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return f"jsonl:{folder / 'pairs.jsonl'}"


def write_parquet(folder: Path, columns: dict[str, list[Any]], **options: Any) -> str:
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "pairs.parquet", **options)
    return f"parquet:{folder / 'pairs.parquet'}"


def texts(spec: str) -> dict[str, tuple[str, ...]]:
    source: Any = open_source(spec)
    return {key: source.captions(number) for number, key in enumerate(source.keys)}


# CSV


def test_quoted_captions_may_hold_separators_quotes_and_line_breaks(tmp_path: Path) -> None:
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), ("a.jpg", 'a "big", brown\ndog')])
    assert texts(f"csv:{tmp_path / 'pairs.csv'}") == {"a": ('a "big", brown dog',)}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("image\tcaption\na.jpg\ta, dog\n", ",separator=tab"),
        ("image|caption\na.jpg|a, dog\n", ",separator=|"),
        ("image| comment_number| comment\na.jpg| 0| a, dog\n", ",separator=|"),  # Flickr30k's results.csv
    ],
)
def test_other_separators_are_read(tmp_path: Path, text: str, settings: str) -> None:
    assert texts(write_csv(tmp_path, text) + settings) == {"a": ("a, dog",)}


def test_a_tsv_is_separated_by_tabs_unasked(tmp_path: Path) -> None:
    assert texts(write_csv(tmp_path, "image\tcaption\na.jpg\ta, dog\n", "pairs.tsv")) == {"a": ("a, dog",)}


@pytest.mark.parametrize("separator", ["||", "", "tabs"])
def test_a_separator_of_several_characters_is_refused(tmp_path: Path, separator: str) -> None:
    spec = {"kind": "csv", "file": str(write_csv(tmp_path, "image,caption\n")[4:]), "separator": separator}
    with pytest.raises(UserError, match=r"pairs\.csv: separator should be one character, or tab") as caught:
        open_source(spec)
    assert repr(separator) in str(caught.value)


def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path: Path) -> None:
    assert texts(write_csv(tmp_path, "image,caption\na.jpg,dog\n".encode("utf-8-sig"))) == {"a": ("dog",)}


def test_a_caption_of_ten_thousand_words_is_read_whole(tmp_path: Path) -> None:
    caption = " ".join(["elephant"] * 20_000)  # more than the csv module's own limit of 128 KiB
    assert texts(write_csv(tmp_path, f"image,caption\na.jpg,{caption}\n")) == {"a": (caption,)}


def test_an_empty_caption_leaves_the_image_with_its_others(tmp_path: Path) -> None:
    assert texts(write_csv(tmp_path, "image,caption\na.jpg,\na.jpg,dog\nb.jpg, \n")) == {"a": ("dog",), "b": ()}


def test_a_row_with_too_many_values_is_named_and_not_cut(tmp_path: Path) -> None:
    spec = write_csv(tmp_path, "image,caption\na.jpg,a dog\nb.jpg,a dog, running\n")
    with pytest.raises(UserError, match=r"pairs\.csv: line 3: more values than columns; quote a caption .* ','"):
        open_source(spec)


def test_empty_values_beyond_the_columns_are_let_pass(tmp_path: Path) -> None:
    assert texts(write_csv(tmp_path, "image,caption\na.jpg,dog,,\n")) == {"a": ("dog",)}


def test_a_row_with_too_few_values_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pairs\.csv: line 3: fewer values than columns \(image, caption\)"):
        open_source(write_csv(tmp_path, "image,caption\na.jpg,dog\nb.jpg\n"))


def test_an_empty_image_cell_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pairs\.csv: '' is not a file name"):
        open_source(write_csv(tmp_path, "image,caption\n,a dog\n"))


@pytest.mark.parametrize("content", ["", "image,caption\n", "\n\n"])
def test_an_empty_csv_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"pairs\.csv: the table is empty"):
        open_source(write_csv(tmp_path, content))


# Columns


@pytest.mark.parametrize(
    ("header", "settings"),
    [("filepath,title", ""), ("x,y", ",image=x,caption=y"), ("caption,text", ",image=caption,caption=text")],
)
def test_columns_are_found_by_known_names_or_named(tmp_path: Path, header: str, settings: str) -> None:
    assert texts(write_csv(tmp_path, f"{header}\na.jpg,dog\n") + settings) == {"a": ("dog",)}


@pytest.mark.parametrize(
    ("header", "settings", "expected"),
    [
        ("x,caption", "", "no column that looks like the image. Columns: x, caption. Name the right one with image="),
        ("image,y", "", "no column that looks like the caption. Columns: image, y. Name the right one with caption="),
        ("image,caption", ",image=x", "no column 'x'. Columns: image, caption"),
        ("image,caption", ",caption=y", "no column 'y'. Columns: image, caption"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_missing_column_is_named_with_those_there_are(
    tmp_path: Path, kind: str, header: str, settings: str, expected: str
) -> None:
    row = dict(zip(header.split(","), ("a.jpg", "dog"), strict=True))
    spec = {
        "csv": lambda: write_csv(tmp_path, f"{header}\na.jpg,dog\n"),
        "jsonl": lambda: write_jsonl(tmp_path, row),
        "parquet": lambda: write_parquet(tmp_path, {name: [value] for name, value in row.items()}),
    }[kind]()
    with pytest.raises(UserError) as caught:
        open_source(spec + settings)
    assert expected in str(caught.value)
    assert f"pairs.{kind}: " in str(caught.value)


def test_pictures_are_looked_for_beside_the_table_or_where_told(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "a.jpg").write_bytes(encode_picture(1))
    (tmp_path / "far" / "a.jpg").write_bytes(encode_picture(2))
    spec = write_csv(tmp_path, "image,caption\na.jpg,dog\n")
    assert open_source(spec)[0].image == encode_picture(1)
    assert open_source(f"{spec},{tmp_path / 'far'}")[0].image == encode_picture(2)


# JSON lines


def test_one_row_a_caption_and_one_row_an_image_are_the_same(tmp_path: Path) -> None:
    expected = {"a": ("one", "two"), "b": ("three",)}
    rows = [{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg", "caption": "three"}]
    assert texts(write_jsonl(tmp_path, *rows, {"image": "a.jpg", "caption": "two"})) == expected
    rows = [{"image": "a.jpg", "captions": ["one", "two"]}, {"image": "b.jpg", "captions": ["three"]}]
    assert texts(write_jsonl(tmp_path, *rows)) == expected


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_a_rare_line_break_inside_a_caption_does_not_end_the_line(tmp_path: Path, sign: str) -> None:
    row = json.dumps({"image": "a.jpg", "caption": f"a{sign}dog"}, ensure_ascii=False)
    assert texts(write_jsonl(tmp_path, row, {"image": "b.jpg", "caption": "cat"})) == {"a": ("a dog",), "b": ("cat",)}


@pytest.mark.parametrize("caption", ["", None, [], [""]])
def test_a_row_without_a_caption_keeps_its_image(tmp_path: Path, caption: Any) -> None:
    rows = [{"image": "a.jpg", "caption": "dog"}, {"image": "b.jpg", "caption": caption}]
    assert texts(write_jsonl(tmp_path, *rows)) == {"a": ("dog",), "b": ()}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"image": "b.jpg", "caption": ', "line 3: not valid JSON"),
        ("b.jpg, a dog", "line 3: not valid JSON"),
        ('["b.jpg", "a dog"]', r"line 3: should be a JSON object \(got \[\"b\.jpg\""),
        ('{"image": "b.jpg"}', "row 2: no column 'caption'. Columns: image"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        open_source(write_jsonl(tmp_path, {"image": "a.jpg", "caption": "dog"}, "", line))
    assert str(tmp_path / "pairs.jsonl") in str(caught.value)


def test_an_empty_jsonl_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pairs\.jsonl: the table is empty"):
        open_source(write_jsonl(tmp_path, ""))


# Parquet


def stored_images(count: int, kind: str) -> dict[str, list[Any]]:
    pictures = [encode_picture(number) for number in range(count)]
    images = [{"bytes": data, "path": None} for data in pictures] if kind == "struct" else pictures
    return {"image": images, "captions": [[f"{number} one", f"{number} two"] for number in range(count)]}


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_parquet_may_hold_the_pictures_themselves(tmp_path: Path, kind: str) -> None:
    source = open_source(write_parquet(tmp_path, stored_images(5, kind), row_group_size=2))
    assert len(source) == 5
    for number in (4, 0, 3, 1, 2):
        assert source[number].image == encode_picture(number)
        assert source[number].captions == source.captions(number) == (f"{number} one", f"{number} two")
    assert len({source[number].key for number in range(5)}) == 5


def test_threads_that_read_different_row_groups_get_their_own_pictures(tmp_path: Path) -> None:
    source = open_source(write_parquet(tmp_path, stored_images(24, "binary"), row_group_size=1))
    numbers = list(range(24)) * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: source[number].image, numbers))
    expected = [encode_picture(number) for number in range(24)]
    assert all(image == expected[number] for image, number in zip(found, numbers, strict=True))


def test_a_null_picture_in_parquet_breaks_its_item_only(tmp_path: Path) -> None:
    columns = stored_images(2, "binary")
    columns["image"][0] = None
    source = open_source(write_parquet(tmp_path, columns))
    with pytest.raises(BrokenItemError, match=r"pairs\.parquet: row 0: the file is empty"):
        decode_image(source[0].image, place=source[0].place)
    assert source[1].image == encode_picture(1)


def test_reading_stored_pictures_beyond_the_end_is_an_index_error(tmp_path: Path) -> None:
    source = open_source(write_parquet(tmp_path, stored_images(2, "binary")))
    with pytest.raises(IndexError):
        source[2]


@pytest.mark.parametrize("kind", ["names", "bytes"])
def test_an_empty_parquet_is_named(tmp_path: Path, kind: str) -> None:
    import pyarrow

    image = pyarrow.array([], pyarrow.string() if kind == "names" else pyarrow.binary())
    columns: Any = {"image": image, "caption": pyarrow.array([], pyarrow.string())}
    with pytest.raises(UserError, match=r"pairs\.parquet: the table is empty"):
        open_source(write_parquet(tmp_path, columns))


@pytest.mark.parametrize("content", [b"", b"image,caption\n", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pairs.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"pairs\.parquet: not a Parquet file"):
        open_source(f"parquet:{tmp_path / 'pairs.parquet'}")


def test_a_folder_is_not_a_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_source(f"parquet:{tmp_path}")


def test_a_damaged_row_group_breaks_its_own_items_only(tmp_path: Path) -> None:
    import pyarrow.parquet

    source = open_source(write_parquet(tmp_path, stored_images(4, "binary"), row_group_size=2, use_dictionary=False))
    file = tmp_path / "pairs.parquet"
    place = pyarrow.parquet.ParquetFile(file).metadata.row_group(0).column(0).data_page_offset
    data = file.read_bytes()
    file.write_bytes(data[:place] + b"\xff" * 20 + data[place + 20 :])
    with pytest.raises(BrokenItemError, match=r"pairs\.parquet: row group 0 is damaged"):
        source[1]
    assert source[2].image == encode_picture(2)


def test_damaged_captions_in_parquet_are_named_when_opened(tmp_path: Path) -> None:
    columns = {"image": ["a.jpg"], "caption": ["a brown dog"]}
    spec = write_parquet(tmp_path, columns, use_dictionary=False, compression="NONE", write_statistics=False)
    file = tmp_path / "pairs.parquet"
    file.write_bytes(file.read_bytes().replace(b"a brown dog", b"a br\xffwn dog"))
    with pytest.raises(UserError, match=r"pairs\.parquet: damaged in the columns image, caption \(.*utf-8"):
        open_source(spec)


def classes_of(spec: str) -> tuple[list[int | None], tuple[str, ...] | None]:
    source = open_source(spec)
    assert "classes" in source.gives
    assert [source[number].label for number in range(len(source))] == [source.label(n) for n in range(len(source))]
    return [source.label(number) for number in range(len(source))], source.class_names


@pytest.mark.parametrize(
    ("cells", "labels", "names"),
    [
        (("dog", "cat"), [1, 0], ("cat", "dog")),
        (("3", "0"), [3, 0], None),
        (("dog", ""), [0, None], ("dog",)),
        (("-1", "2"), [None, 2], None),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "bytes"])
def test_a_column_holds_classes_with_captions_or_without(
    tmp_path: Path, kind: str, cells: tuple[str, str], labels: list[int | None], names: tuple[str, ...] | None
) -> None:
    images: list[Any] = ["a.jpg", "b.jpg"]
    if kind == "csv":
        lines = [f"{image},{cell}" for image, cell in zip(images, cells, strict=True)]
        spec = write_csv(tmp_path, "\n".join(["image,kind", *lines, ""]))
    elif kind == "jsonl":
        spec = write_jsonl(tmp_path, *({"image": a, "kind": b} for a, b in zip(images, cells, strict=True)))
    else:
        pytest.importorskip("pyarrow")
        held = [{"bytes": (tmp_path / name).read_bytes()} for name in images] if kind == "bytes" else images
        numbers = all(cell.lstrip("-").isdecimal() for cell in cells)
        spec = write_parquet(tmp_path, {"image": held, "kind": [int(cell) if numbers else cell for cell in cells]})
    assert classes_of(f"{spec},label=kind") == (labels, names)


@pytest.mark.parametrize("kind", ["csv", "bytes"])
def test_names_of_classes_change_what_a_source_is_made_from(tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        spec = write_csv(tmp_path, "image,kind\na.jpg,dog\nb.jpg,cat\n")
    else:
        pytest.importorskip("pyarrow")
        held = [{"bytes": (tmp_path / name).read_bytes()} for name in ("a.jpg", "b.jpg")]
        spec = write_parquet(tmp_path, {"image": held, "kind": ["dog", "cat"]})
    source: Any = open_source(f"{spec},label=kind")
    before = source.stamp()
    object.__setattr__(source, "classes", replace(source.classes, names=("cow", "hen")))
    assert source.stamp() != before


def test_classes_change_the_fingerprint_and_a_table_without_them_keeps_its_own(tmp_path: Path) -> None:
    spec = write_csv(tmp_path, "image,caption,kind\na.jpg,a dog,dog\nb.jpg,a cat,cat\n")
    plain, classed = open_source(spec), open_source(f"{spec},label=kind")
    assert "label" not in plain.chosen_by
    assert plain.gives == {"captions"}
    assert plain.fingerprint() != classed.fingerprint()
    assert classed.captions(0) == ("a dog",)


@pytest.mark.parametrize(
    ("rows", "settings", "reason"),
    [
        ("image,kind\na.jpg,dog\na.jpg,cat\n", "label=kind", r"line 3: a\.jpg is of class 'cat' here and 'dog' above"),
        ("image,kind\na.jpg,dog\n", "label=sort", r"no column 'sort'\. Columns: image, kind\. Name .* label="),
        ("image,kind\na.jpg,dog\n", "label=kind,caption=text", "no column 'text'"),
    ],
)
def test_a_column_of_classes_that_does_not_fit_is_named(tmp_path: Path, rows: str, settings: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        open_source(f"{write_csv(tmp_path, rows)},{settings}")
