"""Writing WebDataset shards: samples as members of tar files, each file whole or absent."""

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from pydantic import PositiveInt

from pocketclip.config import Config, digest
from pocketclip.data.labels import write_class_names
from pocketclip.data.sample_json import to_json
from pocketclip.data.source import Sample, Source, broken_item, refuse_choices
from pocketclip.errors import BrokenItemError, UserError, first_line
from pocketclip.files import cannot_write, new_file, write_atomically
from pocketclip.preprocess import IMAGE_SUFFIXES
from pocketclip.stages.engine import compute_here, fill
from pocketclip.stages.store import Block, Stage, first_difference
from pocketclip.stages.watch import SILENT, Watch

Report = TypeVar("Report", bound=Config)


class BrokenOf(NamedTuple):
    """What a watch is told of broken items once some work is done."""

    work: str
    total: int
    messages: list[str]


class ShardProgress(Config):
    """`NAME.progress.json` beside the shards of a source: what they are made from, and in the end what they hold."""

    source_fingerprint: str
    samples_per_shard: PositiveInt
    num_shards: int
    """0 until all are written."""
    num_written: int = 0
    broken: list[str] = []


def write_shards(
    source: Source,
    folder: Path,
    *,
    name: str = "data",
    samples_per_shard: int = 1000,
    check: Callable[[Sample], object] | None = None,
    watch: Watch = SILENT,
) -> ShardProgress:
    """Write a source as `folder/NAME-000000.tar`, ...; each shard appears whole, and a second call goes on.

    The folder is made if missing, must hold no shards of another source, and has `NAME.blocks/` until all are written.
    A shard covers `samples_per_shard` items, broken ones included, which the watch is told of by a finished call too;
    `check` raises BrokenItemError for a sample that should be left out. Names of classes go into `classnames.txt`.
    """
    refuse_choices(source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    begun = ShardProgress(source_fingerprint=source.fingerprint(), samples_per_shard=samples_per_shard, num_shards=0)
    told = folder / f"{name}.progress.json"

    def compute(start: int, stop: int) -> Block:
        broken: list[str] = []
        with new_shard(folder / f"{name}-{start // samples_per_shard:06d}.tar") as archive:
            for index in range(start, stop):
                try:
                    sample = source[index]
                    if check is not None:
                        with broken_item(lambda: source.place(index)):  # noqa: B023 (used at once)
                            check(sample)
                    add_sample(archive, sample)
                except BrokenItemError as error:
                    broken.append(str(error))
        return Block({"num_written": np.array([stop - start - len(broken)])}, broken)

    made_from = {"source": begun.source_fingerprint}
    stage = Stage("writing samples", made_from, len(source), samples_per_shard, compute, go_on="start again")
    earlier = _earlier_progress(told, begun, name)
    if earlier is not None and earlier.num_shards == stage.num_blocks:
        clear_unfinished(folder, name)  # where an earlier call was killed before it could
        if earlier.broken:  # so that the same command comes to the same verdict
            watch.work(stage.work, len(source), len(source), earlier.broken)
        return earlier
    write_class_names(folder, source, name)
    if earlier is None:  # before the first shard: who is stopped in between finds out that it is ours
        write_atomically(told, _lines(begun.model_dump()))
    blocks = fill(folder / f"{name}.blocks", stage, lambda: stage, compute_here, watch, resume=True)
    written = Block.join(blocks.read_all(), {"num_written": np.zeros(0, np.int64)})
    counts = {"num_shards": stage.num_blocks, "num_written": int(written["num_written"].sum())}
    progress = begun.model_copy(update={**counts, "broken": written.broken})
    write_atomically(told, _lines(progress.model_dump()))
    clear_unfinished(folder, name)
    return progress


def _earlier_progress(told: Path, begun: ShardProgress, name: str) -> ShardProgress | None:
    """What an earlier call left; None where there was none."""
    if not told.is_file():
        _refuse_unknown(told.parent, name)
        return None
    try:
        there = ShardProgress.parse(json.loads(told.read_text(encoding="utf-8")), place=str(told))
    except ValueError as error:
        raise UserError(f"{told}: damaged ({error}); delete it with its shards, or choose another --out.") from error
    if (there.source_fingerprint, there.samples_per_shard) != (begun.source_fingerprint, begun.samples_per_shard):
        raise UserError(f"{told.parent}: holds shards '{name}' of other data; choose another --out or --name.")
    return there


def earlier_report(
    told: Path, asked: dict[str, Any], kind: type[Report], watch: Watch, *, name: str, resume: bool
) -> Report | None:
    """The report of an earlier call that wrote shards and asked for the same; None where they are still to be written.

    The file `told` says what was asked, and under `report`, of type `kind`, what came of it; `name` stands before the
    shards' numbers. Shards that are there already are a UserError unless the user means to `resume` that call, whose
    broken items the watch is told of again.
    """
    if not told.is_file():
        _refuse_unknown(told.parent, name)
        return None
    if not resume:
        raise UserError(f"{told}: its shards are here already; choose another --out or --name.")
    try:
        values = json.loads(told.read_text(encoding="utf-8"))
        report = kind.parse(values.pop("report"), place=str(told))
        broken = [BrokenOf(*one) for one in values.pop("broken", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{told}: damaged ({error}); choose another --out or --name.") from error
    if (difference := first_difference(values, json.loads(json.dumps(asked)))) is not None:
        raise UserError(f"{told}: {difference}. Choose another --out or --name.")
    for one in broken:
        watch.work(one.work, one.total, one.total, one.messages)
    return report


def finish_shards(told: Path, asked: dict[str, Any], report: Config, broken: Iterable[BrokenOf], *, name: str) -> None:
    """Write what `earlier_report` reads, and remove the blocks and what killed workers left; see there."""
    values = {**asked, "report": report.model_dump(), "broken": [one for one in broken if one.messages]}
    write_atomically(told, _lines(values))
    clear_unfinished(told.parent, name)


def _lines(values: dict[str, Any]) -> bytes:
    """JSON for people, in which names of files that are not UTF-8 are escaped."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def _refuse_unknown(folder: Path, name: str) -> None:
    if not (folder / f"{name}.blocks").is_dir() and any(folder.glob(f"{name}-*.tar")):
        raise UserError(f"{folder}: holds shards '{name}' that we did not write; choose another --out or --name.")


def clear_unfinished(folder: Path, name: str) -> None:
    """Remove the blocks of shards that are all written, and what killed workers left beside them."""
    shutil.rmtree(folder / f"{name}.blocks", ignore_errors=True)
    for left in folder.glob(f".{name}-*.tar.*"):
        left.unlink(missing_ok=True)


@contextmanager
def new_shard(path: Path) -> Iterator[tarfile.TarFile]:
    """A shard to add samples to, which appears under its name when it is whole, or never."""
    with new_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        yield archive


def add_sample(
    archive: tarfile.TarFile,
    sample: Sample,
    further: Mapping[str, Any] | None = None,
    others: Mapping[str, bytes] | None = None,
) -> None:
    """Add a sample as the members `KEY.jpg` (or whatever the picture is) and `KEY.json`, or nothing if it is broken.

    The JSON gets the `further` keys, and the sample the `others` as members, by their endings such as `views.json`.
    """
    if not re.fullmatch(r"[\w-]+", sample.key):
        raise BrokenItemError(
            f"{sample.place}: {sample.key!r} is no key of a sample (letters, digits, _ and - make one)."
        )
    suffix, text, key = _suffix(sample), to_json(sample, further or {}), _member_key(sample.key)
    for ending, data in ((suffix, sample.image), ("json", text), *(others or {}).items()):
        info = tarfile.TarInfo(f"{key}.{ending}")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def _member_key(key: str) -> str:
    """The key as a member's name: USTAR holds 100 bytes with the ending, so longer ones end in their hash."""
    data = key.encode()
    return key if len(data) <= 80 else f"{data[:63].decode(errors='ignore')}-{digest(key)}"


def _suffix(sample: Sample) -> str:
    """The file ending of an encoded picture, from its content."""
    try:
        with Image.open(io.BytesIO(sample.image)) as image:
            kind = (image.format or "").lower()
    except Exception as error:  # of any of Pillow's formats
        raise BrokenItemError(
            f"{sample.place}: not a picture in a format we can read ({first_line(error)})."
        ) from error
    suffix = {"jpeg": "jpg", "mpo": "jpg", "tiff": "tif", "heif": "heic"}.get(kind, kind)
    return suffix if f".{suffix}" in IMAGE_SUFFIXES else "jpg"
