"""Tables as people have them, and one clear line for each that cannot be read with certainty."""

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.captions import clean_captions, is_empty_word
from pocketclip.errors import UserError


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg", "sub/c.jpg", "000123.jpg")):
        (tmp_path / name).write_bytes(encode_picture(number))
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")


def texts(spec: str) -> list[tuple[str, ...]]:
    source = open_source(spec)
    return [source.captions(number) for number in range(len(source))]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x.csv", "image;caption\na.jpg;a dog, brown\n", [("a dog, brown",)]),
        ("x.csv", "filepath\ttitle\na.jpg\ta dog, brown\n", [("a dog, brown",)]),
        ("x.txt", "image_name| comment_number| comment\na.jpg| 0| a dog\n", [("a dog",)]),
        ("x.TSV", "image\tcaption\na.jpg\ta, dog\n", [("a, dog",)]),
        ("x.csv", "Image , Caption\na.jpg,dog\n", [("dog",)]),
        ("x.csv", "image,caption\r\na.jpg,dog\r\n", [("dog",)]),
        ("x.tsv", 'image\tcaption\na.jpg\t"a dog\nb.jpg\ta "cat"\n', [('"a dog',), ('a "cat"',)]),
        ("x.tsv", 'image\tcaption\na.jpg\t"a dog\nb.jpg\ta cat"\n', [('"a dog',), ('a cat"',)]),
        ("x.tsv", 'image\tcaption\na.jpg\t"a ""big"" dog"\n', [('a "big" dog',)]),
        ("x.csv", "image,caption\nsub\\c.jpg,cat\n", [("cat",)]),
        ("x.csv", "image,caption\na.jpg,1\n./a.jpg,2\nsub/../a.jpg,3\nlink.jpg,4\n", [("1", "2", "3", "4")]),
        ("x.csv", "image,caption\n000123,cat\n", [("cat",)]),
        ("x.csv", "image,caption_0,caption_1\na.jpg,cat,dog\n", [("cat", "dog")]),
        ("x.csv", "image,caption\na.jpg,a\x0cdog\u2028x\x85y\x0bz\nb.jpg,cat\n", [("a dog x y z",), ("cat",)]),
    ],
)
def test_tables_are_read_as_they_are(tmp_path: Path, name: str, text: str, expected: list[tuple[str, ...]]) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert texts(f"csv:{tmp_path / name}") == expected
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    assert texts(f"csv:{tmp_path / name}.gz") == expected
    (tmp_path / name).write_bytes(text.encode("utf-16"))
    assert texts(f"csv:{tmp_path / name}") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"a.jpg,a dog\n", r"line 1: no header: 'a\.jpg' is a picture.*sed -i '1i image,caption'"),
        ("image,caption\na.jpg,dog\n".encode("utf-16-le"), "line 1: holds NUL characters.*UTF-8"),
        (b"image,caption,caption\na.jpg,a,b\n", "column 'caption' is there twice"),
        (b'image,caption\na.jpg,dog\nb.jpg,"cat\nc.jpg,d\n', "line 3: not valid CSV"),
        (b"image,caption\nnone.jpg,dog\n", r"none of the first 1 pictures is in .*none\.jpg.*,IMAGES_DIR"),
        (b"url,caption\nhttps://x.org/a.jpg,dog\n", "line 2: column 'url' holds addresses.*img2dataset"),
        (b'image,caption\na.jpg,"[1, 2]"\n', "line 2: a caption is a text .*a number"),
    ],
)
def test_what_is_not_certain_is_named(tmp_path: Path, text: bytes, reason: str) -> None:
    (tmp_path / "x.csv").write_bytes(text)
    with pytest.raises(UserError, match=reason) as caught:
        open_source(f"csv:{tmp_path / 'x.csv'}")
    assert "x.csv" in str(caught.value)


def test_empty_words_are_counted(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("image,caption\na.jpg,NaN\na.jpg,dog\nb.jpg,N/A\n")
    assert texts(f"csv:{tmp_path / 'x.csv'}") == [("dog",), ()]
    (left,) = open_source(f"csv:{tmp_path / 'x.csv'}").left_out
    assert left.count == 2
    assert left.names[0].endswith("x.csv: line 2")


def test_parquet_rows_of_equal_bytes_are_one_picture(tmp_path: Path) -> None:
    import pyarrow.parquet

    data = [encode_picture(number) for number in (1, 2, 1)]
    for part in range(2):
        table = pyarrow.table({"image": data, "other": data[::-1], "caption": [f"{part}{row}" for row in range(3)]})
        pyarrow.parquet.write_table(table, tmp_path / f"t-{part:05d}-of-00002.parquet", row_group_size=1)
    expected = [("00", "02", "10", "12"), ("01", "11")]
    for place in (tmp_path, tmp_path / "*.parquet", tmp_path / "t-{00000..00001}-of-00002.parquet"):
        assert texts(f"parquet:{place}") == expected
    source, other = (open_source(f"parquet:{tmp_path},image={name}") for name in ("image", "other"))
    assert source.fingerprint() != other.fingerprint()
    assert [source[number].image for number in range(2)] == data[:2]


def test_a_parquet_row_may_name_its_picture(tmp_path: Path) -> None:
    import pyarrow.parquet

    images = [{"bytes": None, "path": "a.jpg"}, {"bytes": encode_picture(0), "path": None}]
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "caption": ["1", "2"]}), tmp_path / "x.parquet")
    assert texts(f"parquet:{tmp_path / 'x.parquet'}") == [("1", "2")]


CAPTIONS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(captions=CAPTIONS)
def test_what_is_written_is_read_or_refused_by_name(kind: str, captions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"x.{kind}"
        for number in range(len(captions)):
            (Path(folder) / f"{number}.jpg").touch()
        rows: list[Any] = [{"image": f"{number}.jpg", "caption": caption} for number, caption in enumerate(captions)]
        if kind == "parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        elif kind == "jsonl":
            file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), newline="")
        else:
            buffer = io.StringIO(newline="")
            writer = csv.DictWriter(buffer, ["image", "caption"], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
            file.write_bytes(buffer.getvalue().encode())
        refused = ""
        found: list[tuple[str, ...]] = []
        try:
            found = texts(f"{'csv' if kind == 'tsv' else kind}:{file}")
        except UserError as error:
            refused = str(error)
        expected = [() if is_empty_word(caption) else clean_captions([caption]) for caption in captions]
        assert file.name in refused if refused else found == expected
