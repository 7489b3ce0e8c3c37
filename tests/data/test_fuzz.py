"""Damaged files of every kind: whatever is read of them ends in a value or a UserError, and soon.

A file that is right is changed at random (bytes flipped, cut out, swapped, put in, repeated, or all of it random), and
all that a source can be asked is asked of it. The seed names a case: `run(SEED)` does it again.
"""

import io
import json
import resource
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import encode_picture
from pocketclip.data import open_source
from pocketclip.data.identity import content_fingerprint
from pocketclip.data.source import Source
from pocketclip.errors import UserError
from pocketclip.preprocess import decode_image

Files = dict[str, bytes]
CAPTIONS = ["a dog runs", "grün und 狗", 'two, with a "quote"']
SECONDS, MEBIBYTES = 5.0, 600
"""The most that a case may take."""


def encoded_tar(members: dict[str, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, next(iter(members))
        archive.addfile(link)
    return output.getvalue()


def encoded_parquet(rows: int, picture: bytes) -> bytes:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pictures = [{"bytes": picture, "path": f"{n}.jpg"} for n in range(rows)]
    output = io.BytesIO()
    pq.write_table(pa.table({"image": pictures, "captions": [CAPTIONS] * rows}), output)
    return output.getvalue()


def lines(header: str, separator: str) -> bytes:
    rows = [f'{n}.jpg{separator}"{caption.replace(chr(34), chr(34) * 2)}"' for n in range(3) for caption in CAPTIONS]
    return "\n".join([header, *rows, ""]).encode()


def right_files() -> dict[str, tuple[str, str, Files]]:
    """By kind: the source as a user writes it, the file that is damaged, and all files."""
    small = encode_picture(1, (16, 12))
    pictures = {f"{n}.jpg": small for n in range(3)}
    told = json.dumps({"captions": CAPTIONS, "label": 1, "split": "val", "exif": {"a": [1]}}).encode()
    texts = {"0.json": told, "1.txt": "\n".join(CAPTIONS).encode(), "2.cls": b"1", "2.caption": b"a cat"}
    apart = {**pictures, "3.v.png": encode_picture(2, (16, 12), "PNG"), **texts, "3.v.txt": b"dots", "x.mp4": b"x"}
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(3)]
    notes = [{"id": n, "image_id": n % 3, "caption": caption} for n, caption in enumerate(CAPTIONS * 3)]
    karpathy = [
        {"filename": f"{n}.jpg", "split": "train", "sentences": [{"raw": c} for c in CAPTIONS]} for n in range(3)
    ]
    rows = (json.dumps({"image": f"{n}.jpg", "captions": CAPTIONS}) for n in range(3))
    tokens = "".join(f"{n}.jpg#{k}\t{caption}\n" for n in range(3) for k, caption in enumerate(CAPTIONS))
    kinds: dict[str, tuple[str, str, Files]] = {
        kind.lower(): ("folder:{}", f"0.{kind.lower()}", {f"0.{kind.lower()}": encode_picture(3, (16, 12), kind)})
        for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
    }
    for name, format in (("tar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        long = {f"{'long' * 40}.jpg": small} if name != "tar" else {}
        shard = encoded_tar({**apart, **long}, format)
        kinds[name] = ("webdataset:{}/x.tar", "x.tar", {"x.tar": shard, "classnames.txt": b"a\nb\n"})
    plain = {"x.tar": encoded_tar(apart), "classnames.txt": "cat\nHündin\n".encode()}
    kinds["classnames"] = ("webdataset:{}", "classnames.txt", plain)
    kinds["sidecar.json"] = ("folder:{}", "0.json", {**pictures, "0.json": told})
    kinds["sidecar.txt"] = ("folder:{}", "1.txt", {**pictures, "1.txt": texts["1.txt"]})
    kinds["csv"] = ("csv:{}/x.csv", "x.csv", {**pictures, "x.csv": lines("image,caption", ",")})
    kinds["tsv"] = ("csv:{}/x.tsv", "x.tsv", {**pictures, "x.tsv": lines("image\tcaption", "\t")})
    kinds["jsonl"] = ("jsonl:{}/x.jsonl", "x.jsonl", {**pictures, "x.jsonl": "\n".join(rows).encode()})
    coco = json.dumps({"images": images, "annotations": notes}).encode()
    kinds["coco"] = ("coco:{0}/x.json,{0}", "x.json", {**pictures, "x.json": coco})
    split = json.dumps({"images": karpathy, "dataset": "x"}).encode()
    kinds["karpathy"] = ("karpathy:{0}/x.json,{0},split=train", "x.json", {**pictures, "x.json": split})
    kinds["flickr"] = ("flickr:{0}/x.txt,{0}", "x.txt", {**pictures, "x.txt": tokens.encode()})
    kinds["parquet"] = ("parquet:{}/x.parquet", "x.parquet", {"x.parquet": encoded_parquet(3, small)})
    return kinds


RIGHT = right_files()


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """A few changes at random places."""
    values = bytearray(data)
    for _ in range(random.integers(1, 4)):
        size = max(1, len(values))
        at, length = int(random.integers(size)), int(random.integers(1, min(size, 64) + 1))
        match int(random.integers(8)):
            case 0:
                values[at : at + 1] = bytes([int(random.integers(256))])
            case 1:
                values[at : at + length] = random.bytes(length)
            case 2:
                del values[at:]
            case 3:
                del values[at : at + length]
            case 4:
                values[at:at] = values[at : at + length] * int(random.integers(1, 4))
            case 5:
                other = int(random.integers(size))
                values[at : at + length], values[other : other + length] = (
                    values[other : other + length],
                    values[at : at + length],
                )
            case 6:
                odd = (b"\0", b'"', b"[", b"{", b"\n", b"\t", b"\xff", b"9" * 40, b"-1", b"null", b"NaN", b"1e999")
                values[at : at + int(random.integers(3))] = odd[int(random.integers(len(odd)))]
            case _:
                if random.random() < 0.1:
                    values = bytearray(random.bytes(length * 8))
                else:  # a bit
                    values[at : at + 1] = bytes(
                        [value ^ (1 << int(random.integers(8))) for value in values[at : at + 1]]
                    )
    return bytes(values)


def ask(source: Source) -> None:
    """All that is asked of a source; what cannot be read of it is a UserError."""

    def asked(question: Callable[[], object]) -> None:
        with suppress(UserError):
            question()

    for line in source.left_out:
        assert str(line)
    asked(source.fingerprint)
    asked(lambda: source.class_names)
    for index in range(min(len(source), 4)):
        assert isinstance(source.place(index), str)
        asked(lambda: source.captions(index))  # noqa: B023 (asked at once)
        asked(lambda: source.label(index))  # noqa: B023
        asked(lambda: source.picture_id(index))  # noqa: B023
        with suppress(UserError):
            sample = source[index]
            decode_image(sample.image, place=sample.place)
    asked(lambda: content_fingerprint(source))


def run(seed: int, folder: Path, kind: str) -> None:
    """One case in an empty folder."""
    text, file, files = RIGHT[kind]
    random = np.random.default_rng(seed)
    for name, data in files.items():
        (folder / name).write_bytes(damaged(data, random) if name == file else data)
    try:
        source = open_source(text.format(folder))
    except UserError:
        return
    ask(source)


@pytest.fixture(autouse=True)
def stopped_when_it_hangs() -> Iterator[None]:
    """An alarm, set anew for every case, is an exception."""

    def stop(*_: object) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fuzz(root: Path, kind: str, seeds: range) -> None:
    """Cases one after the other, with what a failure needs to be done again."""
    folder = root / "files"
    folder.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for seed in seeds:
        started = time.perf_counter()
        signal.alarm(2 * int(SECONDS))
        try:
            run(seed, folder, kind)
        except Exception as error:
            pytest.fail(f"{kind}, seed {seed}: {type(error).__name__}: {error}", pytrace=True)
        assert time.perf_counter() - started < SECONDS, f"{kind}, seed {seed}"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before < MEBIBYTES, kind


@pytest.mark.parametrize("kind", RIGHT)
def test_files_that_are_right_are_read(tmp_path: Path, kind: str) -> None:
    text, _, files = RIGHT[kind]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    source = open_source(text.format(tmp_path))
    for index in range(len(source)):
        decode_image(source[index].image, place="x")
    ask(source)


@pytest.mark.parametrize("kind", RIGHT)
def test_a_thousand_damaged_files_end_clean(tmp_path: Path, kind: str) -> None:
    fuzz(tmp_path, kind, range(1000 // len(RIGHT) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", RIGHT)
def test_a_hundred_thousand_damaged_files_end_clean(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 24)  # a size that was damaged should not take minutes
    fuzz(tmp_path, kind, range(1000, 1000 + 100_000 // len(RIGHT) + 1))
