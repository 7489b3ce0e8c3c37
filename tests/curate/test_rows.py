"""Filters of scored rows against a loop over the rows, and DataComp's baselines by name against its own rules."""

import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pocketclip.curate.baselines import BASIC, LAION, NAMES, BaselineFiles, baseline
from pocketclip.curate.row_filter import filter_rows
from pocketclip.curate.rows import RowFilter, RowsVerdict
from pocketclip.data.ids import Uids, uid_texts
from pocketclip.data.language import may_be_english
from pocketclip.errors import UserError

CAPTIONS = [
    "a dog in the snow", "dog", "a  red bike", "hi you", "Ein Hund und eine Katze", "", None, "two kit foxes",
    "собака в снегу", "the old churches", "a b c", "Buy 2 get 1 free",
]  # fmt: skip
B32, L14 = "clip_b32_similarity_score", "clip_l14_similarity_score"
Row = dict[str, Any]


def rows_of(count: int, seed: int = 0) -> list[Row]:
    """Rows as DataComp's metadata has them, with everything that may be missing, and scores that tie."""
    random = np.random.default_rng(seed)
    return [
        {
            "uid": hashlib.md5(f"{seed} {number}".encode()).hexdigest(),
            "text": CAPTIONS[random.integers(len(CAPTIONS))],
            "original_width": None if random.random() < 0.05 else int(random.integers(0, 900)),
            "original_height": int(random.integers(1, 900)),
            B32: float(random.integers(0, 60)) / 100,
            L14: None if random.random() < 0.05 else float(random.integers(0, 20)) / 50,
        }
        for number in range(count)
    ]


def write(folder: Path, rows: list[Row], files: int = 3) -> Path:
    folder.mkdir()
    for number in range(files):
        part = rows[number * len(rows) // files : (number + 1) * len(rows) // files]
        columns = {name: [row[name] for row in part] for name in rows[0]}
        pq.write_table(pa.table(columns), folder / f"{number:04d}.parquet", row_group_size=17)
    return folder


def ids(verdict: RowsVerdict) -> list[str]:
    found = verdict.ids()
    return uid_texts(found) if isinstance(found, np.ndarray) else found


def sides(row: Row) -> tuple[int, int] | None:
    return None if row["original_width"] is None else (row["original_width"], row["original_height"])


SLOW: dict[str, Callable[[Row, Any], bool]] = {
    "min_image_side": lambda row, side: sides(row) is not None and min(sides(row) or ()) >= side,
    "max_aspect_ratio": lambda row, most: bool(
        (both := sides(row)) and min(both) and max(both) / min(both) <= most
    ),
    "min_caption_words": lambda row, least: len((row["text"] or "").split()) >= least,
    "max_caption_words": lambda row, most: len((row["text"] or "").split()) <= most,
    "min_caption_letters": lambda row, least: len(row["text"] or "") >= least,
    "language": lambda row, _: may_be_english(row["text"] or ""),
    "min_similarity": lambda row, least: row[B32] >= least,
}  # fmt: skip


def slow(rows: list[Row], rules: dict[str, Any]) -> list[str]:
    return [row["uid"] for row in rows if all(SLOW[name](row, value) for name, value in rules.items())]


@pytest.mark.parametrize(
    "rules",
    [
        *({name: value} for name, value in {**BASIC, **LAION, "max_caption_words": 3}.items()),
        BASIC,
        {"min_image_side": 50, "max_caption_words": 6, "min_similarity": 0.2},
    ],
)
def test_rows_are_judged_as_a_loop_over_them_does(rules: dict[str, Any], tmp_path: Path) -> None:
    rows = rows_of(400)
    verdict = filter_rows(write(tmp_path / "rows", rows), [RowFilter(rules, B32)])
    assert ids(verdict) == slow(rows, rules)
    assert verdict.report.num_rows == 400
    assert verdict.report.num_kept == len(ids(verdict)) == 400 - sum(verdict.report.dropped.values())


def datacomp_threshold(scores: list[float | None], share: float) -> float:
    """`get_threshold` of its baselines."""
    there = np.array([score for score in scores if score is not None])
    return float(-np.sort(-there)[int(len(there) * share)])


@pytest.mark.parametrize(("name", "column", "share"), [
    ("clip_score_l14_30_percent", L14, 0.3), ("clip_score_b32_30_percent", B32, 0.3),
    ("clip_score", L14, 0.3), ("clip_score_b32_5_percent", B32, 0.05),
])  # fmt: skip
def test_a_share_is_cut_where_datacomp_cuts_it(name: str, column: str, share: float, tmp_path: Path) -> None:
    rows = rows_of(300)
    threshold = datacomp_threshold([row[column] for row in rows], share)
    verdict = filter_rows(write(tmp_path / "rows", rows), baseline(name, BaselineFiles()))
    assert ids(verdict) == [row["uid"] for row in rows if row[column] is not None and row[column] >= threshold]
    assert verdict.report.cuts == {column: threshold}


def test_a_share_beside_other_rules_is_of_what_they_leave(tmp_path: Path) -> None:
    rows = rows_of(300)
    verdict = filter_rows(write(tmp_path / "rows", rows), [RowFilter({"language": "en", "keep_share": 0.5}, B32)])
    english = [row for row in rows if may_be_english(row["text"] or "")]
    threshold = datacomp_threshold([row[B32] for row in english], 0.5)
    assert ids(verdict) == [row["uid"] for row in english if row[B32] >= threshold]


def test_named_filters_are_those_of_datacomp(tmp_path: Path) -> None:
    rows = rows_of(300)
    table = write(tmp_path / "rows", rows)
    assert ids(filter_rows(table, baseline("no_filter", BaselineFiles()))) == [row["uid"] for row in rows]
    assert ids(filter_rows(table, baseline("basic", BaselineFiles()))) == [
        row["uid"]
        for row in rows
        if may_be_english(row["text"] or "")
        and len((row["text"] or "").split()) > 2
        and len(row["text"] or "") > 5
        and sides(row) is not None
        and min(sides(row) or ()) >= 200
        and max(sides(row) or ()) / min(sides(row) or ()) <= 3.0
    ]
    assert ids(filter_rows(table, baseline("laion2b", BaselineFiles()))) == [
        row["uid"] for row in rows if may_be_english(row["text"] or "") and row[B32] >= 0.28
    ]


def test_words_of_a_list_are_found_in_any_number_and_case(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Dog\nkit fox, Vulpes macrotis\nchurch, church building\n")
    captions = ["a DOG.", "dogs!", "hotdog", "a kit fox", "the churches", None, "the dog and the church", "church"]
    rows = [{"uid": f"{number:032x}", "text": text} for number, text in enumerate(captions)]
    verdict = filter_rows(
        write(tmp_path / "rows", rows, files=1), baseline("text_based", BaselineFiles(words=tmp_path / "words.txt"))
    )
    assert [int(uid, 16) for uid in ids(verdict)] == [0, 1, 4, 6, 7]


def _with_clusters(tmp_path: Path) -> tuple[Path, list[Row], BaselineFiles, list[int]]:
    random = np.random.default_rng(1)
    rows = rows_of(90)
    table = write(tmp_path / "rows", rows)
    centroids, target = random.normal(size=(8, 4)), random.normal(size=(3, 4))
    np.save(tmp_path / "centroids.npy", centroids.astype(np.float32))
    np.save(tmp_path / "target.npy", target.astype(np.float32))
    embeddings = random.normal(size=(90, 4)).astype(np.float16)
    for number in range(3):
        np.savez(table / f"{number:04d}.npz", l14_img=embeddings[30 * number : 30 * number + 30])
    wanted = {int(np.argmax(one @ centroids.T)) for one in target}
    near = [number for number, one in enumerate(embeddings) if int(np.argmax(one @ centroids.T)) in wanted]
    return table, rows, BaselineFiles(centroids=tmp_path / "centroids.npy", target=tmp_path / "target.npy"), near


def test_images_near_to_a_target_stay_alone_and_with_a_score(tmp_path: Path) -> None:
    table, rows, files, near = _with_clusters(tmp_path)
    captioned = slow(rows, {"min_caption_words": 2, "min_caption_letters": 6, "language": "en"})
    wanted = [rows[number]["uid"] for number in near if rows[number]["uid"] in captioned]
    assert 0 < len(wanted) < len(captioned)
    assert ids(filter_rows(table, baseline("image_based", files))) == wanted
    both = filter_rows(table, baseline("image_based_intersect_clip_score_l14_30_percent", files))
    threshold = datacomp_threshold([row[L14] for row in rows], 0.3)  # of all rows, not of those near
    assert ids(both) == [row["uid"] for row in rows if row["uid"] in wanted and (row[L14] or 0) >= threshold]


def test_embeddings_that_are_not_there_are_named(tmp_path: Path) -> None:
    table, _, files, _ = _with_clusters(tmp_path)
    (table / "0001.npz").unlink()
    for content in (None, b"PK\x03\x04 cut off", (tmp_path / "target.npy").read_bytes()):
        if content is not None:
            (table / "0001.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"0001\.npz: cannot be read .*takes each row's image from the array l14"):
            filter_rows(table, baseline("image_based", files))
    np.savez(table / "0001.npz", l14_img=np.zeros((29, 4)))
    with pytest.raises(UserError, match=r"l14_img is \(29, 4\), and should be \(30, 4\)"):
        filter_rows(table, baseline("image_based", files))


def test_a_column_says_the_language_where_there_is_one(tmp_path: Path) -> None:
    rows = [
        {"uid": f"{number:032x}", "text": "une", "language": said} for number, said in enumerate(["en", "fr", None])
    ]
    assert len(ids(filter_rows(write(tmp_path / "rows", rows, 1), [RowFilter({"language": "en"})]))) == 1


def test_names_that_are_no_uids_come_back_in_order(tmp_path: Path) -> None:
    rows = [{"key": name, "score": number} for number, name in enumerate(["0" * 32, "b", "c", "d" * 32])]
    table = write(tmp_path / "rows", rows, files=4)
    assert ids(filter_rows(table, [RowFilter({"min_similarity": 0})])) == ["0" * 32, "b", "c", "d" * 32]


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        (lambda: [RowFilter({"min_similarity": 0.99}, B32)], 'keep none of 60 rows (dropped: {"min_similarity": 60})'),
        (lambda: [RowFilter({"keep_share": 0.5})], f"name the column of scores with --score ({B32}, {L14})"),
        (lambda: [RowFilter({"keep_share": 0.5}, "clip_l14")], "Unknown score 'clip_l14'"),
        (
            lambda: [RowFilter({"drop_duplicate_images": True})],
            "--drop-duplicate-images looks at the samples themselves",
        ),
        (lambda: baseline("clip_scores", BaselineFiles()), "Unknown baseline 'clip_scores'"),
        (lambda: baseline("text_based", BaselineFiles()), "--baseline text_based needs --words FILE"),
        (
            lambda: baseline("basic", BaselineFiles(words=Path("w"))),
            "--words has no effect with --baseline basic_filter",
        ),
        (lambda: baseline("image_based", BaselineFiles(centroids=Path("c"))), "needs --target FILE"),
    ],
)
def test_what_cannot_be_filtered_is_refused_in_one_line(
    filters: Callable[[], list[RowFilter]], reason: str, tmp_path: Path
) -> None:
    table = write(tmp_path / "rows", rows_of(60))
    with pytest.raises(UserError) as caught:
        filter_rows(table, filters())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rows = [{"uid": "0" * 32, "caption": "a dog"}]
    with pytest.raises(UserError, match=r"no column original_height or height \(there are: uid, caption\)"):
        filter_rows(write(tmp_path / "rows", rows, 1), [RowFilter(BASIC)])


def _table(tmp_path: Path, **columns: Any) -> Path:
    there = {"uid": ["0" * 32, "1" * 32], "text": ["a dog in the snow"] * 2, "width": [300, 300], "height": [250, 250]}
    pq.write_table(pa.table({**there, **columns}), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


INVALID = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32).tobytes()), pa.py_buffer(b"a\xff")]
)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("width", ["300", "wide"]), ("width", [[300], [300]]), ("text", [b"\xff", b"a dog"]), ("text", INVALID),
        ("text", [["a dog"], ["a cat"]]), ("language", [["en"], ["en"]]),
    ],
)  # fmt: skip
def test_a_column_of_another_type_is_named(column: str, values: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"a\.parquet: column {column} of type .* cannot be read as") as caught:
        filter_rows(_table(tmp_path, **{column: values}), baseline("basic", BaselineFiles()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        ({"width": ["300", "30"]}, 1),
        ({"width": [Decimal("300.5"), None]}, 1),
        ({"language": [1, 2], "text": [None, "a"]}, 0),
        ({"width": pa.nulls(2)}, 0),
        ({"text": [b"a dog in the snow", None]}, 1),
    ],
)
def test_columns_that_read_as_what_is_asked_are_judged(columns: dict[str, Any], kept: int, tmp_path: Path) -> None:
    table = _table(tmp_path, **columns)
    if kept:
        assert filter_rows(table, baseline("basic", BaselineFiles())).report.num_kept == kept
    else:
        with pytest.raises(UserError, match="keep none of 2 rows"):
            filter_rows(table, baseline("basic", BaselineFiles()))


def test_rows_without_a_name_are_in_no_list(tmp_path: Path) -> None:
    verdict = filter_rows(_table(tmp_path, uid=[None, "1" * 32]), [RowFilter()])
    assert (verdict.report.num_kept, ids(verdict)) == (2, ["1" * 32])
    with pytest.raises(UserError, match="no row that stays has a uid"):
        filter_rows(_table(tmp_path, uid=pa.nulls(2)), [RowFilter()]).ids()


def test_every_named_baseline_is_known() -> None:
    for name in NAMES:
        if name not in ("text_based",) and not name.startswith("image_based"):
            assert baseline(name, BaselineFiles())


def test_histograms_count_all_rows_and_those_that_stay(tmp_path: Path) -> None:
    rules = {"min_caption_words": 2, "max_caption_words": 4, "keep_share": 0.5}
    verdict = filter_rows(write(tmp_path / "rows", rows_of(300)), [RowFilter(rules, B32)], with_histograms=True)
    words, score = verdict.histograms
    assert (words.name, [cut for cut, _ in words.cuts]) == ("caption words", [2, 4])
    assert (score.name, [cut for cut, _ in score.cuts]) == (B32, [verdict.report.cuts[B32]])
    for one in (words, score):
        assert one.read.sum() == 300
        assert one.kept.sum() == verdict.report.num_kept
    left = score.edges[:-1]
    assert not score.kept[left < score.cuts[0][1] - 1e-9].any()


def test_a_subset_file_of_rows_is_of_the_type_of_datacomp(tmp_path: Path) -> None:
    found: Uids | list[str] = filter_rows(write(tmp_path / "rows", rows_of(9)), [RowFilter()]).ids()
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.dtype("u8,u8")
