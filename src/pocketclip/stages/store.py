"""The store of an offline stage: a source worked through block by block, each block kept until all of them are there.

A block is some consecutive samples. What comes of it depends on what the stage was made from and on the block's
bounds, so any process on any machine may work on it, a second time too. A folder of blocks is `manifest.json`, which
says what they were made from, and `000012.npz` for block 12. `columns` joins them.
"""

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError
from pocketclip.files import cannot_write, write_atomically

FORMAT = 1  # raise when the same inputs would give other blocks
MANIFEST = "manifest.json"
REFUSED = "refused"
"""Name of the file that lets a run go on without `resume`: the last one stopped since too many items were broken."""
Array = npt.NDArray[Any]
Columns = Mapping[str, Array]
"""Names of a stage's arrays, each with what it is where no block has a row: dtype and width."""


@dataclass(frozen=True)
class Block:
    """What a stage made of some consecutive samples, or of the whole source."""

    arrays: dict[str, Array]
    broken: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    @classmethod
    def join(cls, blocks: Iterable[Self], columns: Columns | None = None) -> Self:
        """Consecutive blocks as one, in memory; where there may be no block at all, it needs the columns."""
        parts = list(blocks)
        arrays = {}
        for name, empty in (parts[0].arrays if columns is None else columns).items():
            filled = [part[name] for part in parts if len(part[name])]  # one without a row does not know its width
            arrays[name] = np.concatenate(filled) if filled else empty
        return cls(arrays, [message for part in parts for message in part.broken])


@dataclass(frozen=True)
class Stage:
    """One pass over the samples of a source."""

    work: str
    """What is done, for people: `encoding images`."""
    made_from: dict[str, Any]
    """Everything the blocks depend on, as plain JSON values: source, model, settings, versions."""
    num_samples: int
    block_size: int
    compute: Callable[[int, int], Block]
    """From the first sample of a block and the one behind its last."""
    on_gpu: bool = False
    elsewhere: str = "--out"
    """What a user sets to have the blocks written elsewhere, for the error of a full disk."""
    go_on: str = "go on with --resume"
    """How a user has the blocks that are missing computed, for the error of a damaged one."""
    remarks: Sequence[str] = ()
    """What to tell before the work, such as what the source left out."""

    @property
    def num_blocks(self) -> int:
        """Blocks in the source; the last may be shorter."""
        return -(-self.num_samples // self.block_size)

    def bounds(self, number: int) -> tuple[int, int]:
        """First sample of a block, and the one behind its last."""
        start = number * self.block_size
        return start, min(start + self.block_size, self.num_samples)


OpenStage = Callable[[], Stage]
"""Opens a stage in another process; it must survive pickling, as a `functools.partial` of a function does."""


@dataclass(frozen=True)
class BlockFolder:
    """The blocks of one stage on disk."""

    path: Path
    stage: Stage

    @classmethod
    def open(cls, path: Path, stage: Stage, *, resume: bool) -> Self:
        """Make the folder, or go on in one; a UserError where it holds other blocks.

        Blocks depend on nothing but what the manifest says, so the same command goes on with them, `resume` or not.
        With none in it a folder is begun again: nothing was done yet that would be lost.
        """
        folder, manifest = cls(path, stage), path / MANIFEST
        try:
            path.mkdir(parents=True, exist_ok=True)
            for left in path.glob("*.attempts"):
                left.unlink()
        except OSError as error:
            raise cannot_write(path, error, elsewhere=stage.elsewhere) from error
        if not manifest.is_file() or not (resume or any(path.glob("*.npz"))):
            write_atomically(manifest, json.dumps(folder.manifest(), indent=2) + "\n", elsewhere=stage.elsewhere)
        folder.check_manifest()
        (path / REFUSED).unlink(missing_ok=True)
        return folder

    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` holds, as it is read back: tuples are lists."""
        values = {"format": FORMAT, "num_samples": self.stage.num_samples, "block_size": self.stage.block_size}
        return dict(json.loads(json.dumps({**values, "made_from": self.stage.made_from})))

    def check_manifest(self) -> None:
        """See that the folder's `manifest.json` describes this stage, or name the first difference."""
        file = self.path / MANIFEST
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: damaged ({error}); delete {file.parent} and start anew.") from error
        if isinstance(there, dict):
            there.pop("broken", None)
        if difference := first_difference(there, self.manifest()):
            raise UserError(f"{file}: {difference}. Choose another --out, or delete {file.parent} to start anew.")

    def file(self, number: int) -> Path:
        """Where a block is, or will be."""
        return self.path / f"{number:06d}.npz"

    def missing(self) -> list[int]:
        """Numbers of the blocks that are not there, or cut off."""
        return [number for number in range(self.stage.num_blocks) if not _is_whole(self.file(number))]

    def write(self, number: int, block: Block) -> None:
        """Write a block whole or not at all; once more gives the same bytes."""
        buffer = io.BytesIO()
        broken = np.frombuffer(json.dumps(block.broken).encode(), np.uint8)
        np.savez(buffer, allow_pickle=False, broken=broken, **block.arrays)
        write_atomically(self.file(number), buffer.getvalue(), elsewhere=self.stage.elsewhere)

    def compute(self, number: int) -> list[str]:
        """Compute a block and write it; returns its broken items."""
        block = self.stage.compute(*self.stage.bounds(number))
        self.write(number, block)
        return block.broken

    def read(self, number: int, *names: str) -> Block:
        """A block, or the named ones of its arrays; a UserError where it is damaged."""
        file = self.file(number)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                broken = json.loads(arrays["broken"].tobytes())
                wanted = names or [name for name in arrays.files if name != "broken"]
                return Block({name: arrays[name] for name in wanted}, broken)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{file}: damaged ({error}); delete the file and {self.stage.go_on}.") from error

    def read_all(self, *names: str) -> Iterator[Block]:
        """The blocks in order; see `read`."""
        return (self.read(number, *names) for number in range(self.stage.num_blocks))

    def broken(self) -> list[str]:
        """The broken items of all blocks."""
        return [message for number in range(self.stage.num_blocks) for message in self.read(number, "broken").broken]

    def parts(self, name: str) -> Iterator[Array]:
        """One array of each block in turn."""
        return (block[name] for block in self.read_all(name))

    def column(self, name: str) -> Array:
        """One array of all blocks in memory; an empty one where no block has a row."""
        return Block.join(self.read_all(name), {name: np.zeros(0, np.int64)})[name]

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _is_whole(file: Path) -> bool:
    """Whether a block is there to its end: the list of an archive's members comes last."""
    try:
        with zipfile.ZipFile(file) as archive:
            return "broken.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def first_difference(there: Any, now: Any, key: str = "") -> str | None:
    """The first key in which two JSON values differ, with both values; None where they are equal."""
    if isinstance(there, dict) and isinstance(now, dict):
        for name in sorted(there.keys() | now.keys()):
            if difference := first_difference(there.get(name), now.get(name), f"{key}.{name}" if key else name):
                return difference
        return None
    return None if there == now else f"{key} is {json.dumps(there)} there and {json.dumps(now)} here"
