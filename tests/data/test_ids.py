"""Lists of ids against DataComp's own way of writing them, and names against the keys that sources give."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pocketclip.data.ids import (
    UID,
    column_uids,
    is_uid,
    name_number,
    read_ids,
    uid_numbers,
    uid_texts,
    uids_of,
    write_ids,
)
from pocketclip.errors import UserError

UIDS = [hashlib.md5(str(number).encode()).hexdigest() for number in range(300)] + ["0" * 32, "f" * 32]
KEYS = ["dog", "photos_2024_cat", "ein Löwe", "0" * 31, "caf\udce9"]


def theirs(uids: list[str]) -> np.ndarray:
    """As DataComp's baselines write a subset: an int of each half, sorted."""
    subset = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], np.dtype("u8,u8"))
    subset.sort()
    return subset


@pytest.mark.parametrize("ending", [".txt", ".parquet", ".npy"])
def test_uids_come_back_from_every_kind_of_file(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"kept{ending}"
    write_ids(file, UIDS)
    found = read_ids(file)
    assert found.are_uids
    assert found.numbers.tolist() == sorted(map(name_number, UIDS))
    assert set(found.first) <= set(UIDS)


def test_a_subset_file_is_that_of_datacomp_byte_for_byte(tmp_path: Path) -> None:
    np.save(tmp_path / "theirs.npy", theirs(UIDS))
    write_ids(tmp_path / "ours.npy", UIDS)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()
    assert sorted(uid_texts(np.load(tmp_path / "theirs.npy"))) == sorted(UIDS)
    write_ids(tmp_path / "again.npy", np.load(tmp_path / "theirs.npy")[::-1])
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_other_byte_orders_and_field_names_are_read(tmp_path: Path) -> None:
    other = theirs(UIDS).astype([("upper", ">u8"), ("lower", ">u8")])
    np.save(tmp_path / "other.npy", other)
    assert read_ids(tmp_path / "other.npy").numbers.tolist() == sorted(map(name_number, UIDS))


@pytest.mark.parametrize("ending", [".txt", ".parquet"])
def test_keys_come_back(ending: str, tmp_path: Path) -> None:
    keys = KEYS if ending == ".txt" else KEYS[:-1]  # Parquet's texts are UTF-8
    write_ids(tmp_path / f"kept{ending}", keys)
    found = read_ids(tmp_path / f"kept{ending}")
    assert not found.are_uids
    assert found.numbers.tolist() == sorted(map(name_number, keys))


def test_a_name_counts_as_the_key_that_it_would_be(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("\n photos/a dog.v2 \n\nphotos_a_dog_v2\n")
    assert read_ids(tmp_path / "kept.txt").numbers.tolist() == [name_number("photos_a_dog_v2")]


def test_a_hex_digit_too_few_or_too_many_is_no_uid() -> None:
    assert [is_uid(text) for text in ("a" * 32, "A" * 32, "a" * 31, "a" * 33, "g" * 32, "a" * 31 + "\n")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


def test_columns_of_uids_need_no_object_each() -> None:
    whole = pa.array(UIDS)
    chunked = pa.chunked_array([whole[5:9], whole[100:]])
    for column, wanted in ((whole, UIDS), (whole[7:20], UIDS[7:20]), (chunked, UIDS[5:9] + UIDS[100:])):
        found = column_uids(column)
        assert found is not None
        assert uid_texts(found) == wanted
        assert uid_numbers(found).tolist() == list(map(name_number, wanted))
    for other in ([*UIDS, "dog"], [*UIDS, None], ["g" * 32], ["é" * 16], []):
        assert column_uids(pa.array(other, pa.string())) is None


def test_uids_that_were_counted_up_have_numbers_of_their_own() -> None:
    counted = [f"{upper:016x}{lower:016x}" for upper in range(300) for lower in range(300)]
    assert len(set(map(name_number, counted))) == len(counted)


def test_digits_that_are_none_are_seen() -> None:
    assert uids_of(np.frombuffer(b"0" * 31 + b"x", np.uint8).reshape(1, 32)) is None


def _npy(array: np.ndarray) -> Callable[[Path], None]:
    return lambda file: np.save(file, array)


def _npz(file: Path) -> None:
    with file.open("wb") as opened:
        np.savez(opened, ids=np.zeros(3, UID))


NAMES = pa.array(["7", None, "3"])


@pytest.mark.parametrize(
    "column",
    [
        NAMES.dictionary_encode(),
        *(NAMES.cast(kind) for kind in (pa.binary(), pa.large_string(), pa.int64())),
    ],
    ids=str,
)
def test_ids_may_be_of_any_type_that_reads_as_texts_and_some_may_be_missing(column: pa.Array, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": column}), tmp_path / "a.parquet")
    assert read_ids(tmp_path / "a.parquet").first == ("7", "3")


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("a.csv", lambda file: file.write_text("dog\n"), "ends in .txt, .parquet or .npy"),
        ("a.txt", lambda file: file.write_text("\n \n"), "holds no ids"),
        ("a.npy", _npy(np.zeros(0, UID)), "holds no ids"),
        ("a.npy", _npy(np.zeros(3)), "should be one row of DataComp's u8,u8 pairs (got float64 (3,))"),
        ("a.npy", _npy(np.zeros((2, 2), UID)), "DataComp's u8,u8 pairs"),
        ("a.npy", _npy(np.zeros(2, "u8,f8")), "DataComp's u8,u8 pairs"),
        ("a.npy", _npy(np.array([{}], object)), "cannot be read as a list of ids"),
        ("a.npy", _npz, "cannot be read as a list of ids"),
        ("a.npy", lambda file: file.touch(), "cannot be read as a list of ids"),
        ("a.npy", lambda file: file.write_bytes(b"\x93NUMPY\x01"), "cannot be read as a list of ids"),
        ("a.parquet", lambda file: file.write_bytes(b"PAR1"), "cannot be read as a list of ids"),
        (
            "a.parquet",
            lambda file: pq.write_table(pa.table({"x": [1], "y": [2]}), file),
            "no column uid, key or id that names samples (there are: x, y)",
        ),
        ("a.parquet", lambda file: pq.write_table(pa.table({"key": [["x"]]}), file), "cannot be read as a list of ids"),
        ("a.parquet", lambda file: pq.write_table(pa.table({"key": pa.nulls(2)}), file), "holds no ids"),
        ("missing.txt", lambda file: None, "cannot be read as a list of ids"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_in_one_line(
    name: str, write: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError) as caught:
        read_ids(tmp_path / name)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_off_subset_file_is_refused(tmp_path: Path) -> None:
    write_ids(tmp_path / "kept.npy", UIDS)
    (tmp_path / "kept.npy").write_bytes((tmp_path / "kept.npy").read_bytes()[:-8])
    with pytest.raises(UserError, match="cannot be read"):
        read_ids(tmp_path / "kept.npy")


def test_keys_do_not_go_into_a_subset_file_and_the_line_it_says_works(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"here is the id 'dog'; write --ids (\S+kept\.txt) instead") as caught:
        write_ids(tmp_path / "kept.npy", [*UIDS, "dog"])
    assert not (tmp_path / "kept.npy").exists()
    instead = Path(str(caught.value).partition("--ids ")[2].split()[0])
    write_ids(instead, [*UIDS, "dog"])
    assert len(read_ids(instead).numbers) == len(UIDS) + 1
