"""Writing WebDataset shards: samples as members of tar files, each file whole or absent."""

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import PositiveInt

from pocketclip.config import Config, digest
from pocketclip.data.source import IMAGE_SUFFIXES, Sample, Source
from pocketclip.errors import BrokenItemError, UserError
from pocketclip.files import cannot_write, write_atomically
from pocketclip.stages.watch import SILENT, Watch


class ShardProgress(Config):
    """`progress.json` beside shards being written: what is done, so that a stopped conversion goes on."""

    source_fingerprint: str
    samples_per_shard: PositiveInt
    num_shards: int
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

    Args:
        source: what to write, in its order.
        folder: made if missing.
        name: before the shard number.
        samples_per_shard: source items a shard covers, broken ones included.
        check: raises BrokenItemError for a sample that should be left out.
        watch: told of the items done and of broken ones.

    Returns:
        Counts and broken items.

    Raises:
        UserError: the folder holds shards of another source, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    state_file = folder / f"{name}.progress.json"
    num_shards = -(-len(source) // samples_per_shard)
    state = ShardProgress(source_fingerprint=source.fingerprint(), samples_per_shard=samples_per_shard, num_shards=0)
    if state_file.is_file():
        try:
            old = ShardProgress.parse(json.loads(state_file.read_text()), place=str(state_file))
        except ValueError as error:
            raise UserError(
                f"{state_file}: damaged ({error}); delete it with its shards, or choose another --out."
            ) from error
        if (old.source_fingerprint, old.samples_per_shard) != (state.source_fingerprint, samples_per_shard):
            raise UserError(f"{folder}: holds shards '{name}' of other data; choose another --out or --name.")
        state = old
    elif any(folder.glob(f"{name}-*.tar")):
        raise UserError(f"{folder}: holds shards '{name}' that we did not write; choose another --out or --name.")
    else:  # before the first shard: who is stopped in between finds out that it is ours
        write_atomically(state_file, state.model_dump_json(indent=2) + "\n")
    for shard in range(state.num_shards, num_shards):
        start, stop = shard * samples_per_shard, min((shard + 1) * samples_per_shard, len(source))
        path = folder / f"{name}-{shard:06d}.tar"
        written, broken = _write_shard(source, range(start, stop), path, check)
        state = state.model_copy(
            update={
                "num_shards": shard + 1,
                "num_written": state.num_written + written,
                "broken": state.broken + broken,
            }
        )
        write_atomically(state_file, state.model_dump_json(indent=2) + "\n")
        watch.work("writing samples", stop, len(source), state.broken)
    return state


def _write_shard(
    source: Source, indices: range, path: Path, check: Callable[[Sample], object] | None
) -> tuple[int, list[str]]:
    """One shard, complete or absent; returns the number of samples in it and what was left out."""
    broken: list[str] = []
    written = 0
    with new_shard(path) as archive:
        for index in indices:
            try:
                sample = source[index]
                if check is not None:
                    check(sample)
                add_sample(archive, sample)
            except BrokenItemError as error:
                broken.append(str(error))
                continue
            written += 1
    return written, broken


@contextmanager
def new_shard(path: Path) -> Iterator[tarfile.TarFile]:
    """A shard to add samples to, which appears under its name when it is whole, or never.

    Raises:
        UserError: the disk is full or not writable.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # two workers may write the same
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def add_sample(
    archive: tarfile.TarFile,
    sample: Sample,
    further: Mapping[str, Any] | None = None,
    others: Mapping[str, bytes] | None = None,
) -> None:
    """Add a sample as the members `KEY.jpg` (or whatever the picture is) and `KEY.json`.

    Args:
        archive: from `new_shard`.
        sample: what to add.
        further: more keys of the JSON.
        others: more members by their endings, such as `views.json`.

    Raises:
        BrokenItemError: the picture is not one; nothing was added.
    """
    suffix = _suffix(sample)
    text: dict[str, Any] = {"captions": list(sample.captions), "key": sample.key}
    if sample.label is not None:
        text["label"] = sample.label
    encoded = json.dumps({**text, **(further or {})}, ensure_ascii=False).encode()
    key = _member_key(sample.key)
    for ending, data in ((suffix, sample.image), ("json", encoded), *(others or {}).items()):
        _add(archive, f"{key}.{ending}", data)


def _member_key(key: str) -> str:
    """The key as a member's name: USTAR holds 100 bytes with the ending, so longer ones end in their hash."""
    data = key.encode()
    return key if len(data) <= 80 else f"{data[:63].decode(errors='ignore')}-{digest(key)}"


def _suffix(sample: Sample) -> str:
    """The file ending of an encoded picture, from its content."""
    try:
        with Image.open(io.BytesIO(sample.image)) as image:
            kind = (image.format or "").lower()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BrokenItemError(f"{sample.place}: not a picture in a format we can read ({error}).") from error
    suffix = {"jpeg": "jpg", "mpo": "jpg", "tiff": "tif"}.get(kind, kind)
    return suffix if f".{suffix}" in IMAGE_SUFFIXES else "jpg"


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
