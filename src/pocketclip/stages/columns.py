"""The blocks of a stage joined: `NAME.npy` for each array, which reading maps into memory, and then `manifest.json`.

The manifest comes last, so who finds it finds everything.
"""

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from pocketclip.errors import UserError
from pocketclip.files import cannot_write, write_atomically
from pocketclip.stages.store import MANIFEST, Array, Block, BlockFolder, Columns


@contextmanager
def appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears under its name when it is whole; for what need not fit into memory."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_column(path: Path, parts: Iterable[Array], empty: Array) -> None:
    """Write arrays that differ in length only as one .npy file, whole or not at all; `empty` where none has a row."""
    filled = (part for part in parts if len(part))
    first = next(filled, empty)
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
    rows = 0
    with appearing(path) as file:
        # Written twice: numpy leaves room in it for any number of rows, which is known in the end
        np.lib.format.write_array_header_1_0(file, {**header, "shape": first.shape})
        start = file.tell()
        for part in itertools.chain([first], filled):
            file.write(np.ascontiguousarray(part, first.dtype).tobytes())
            rows += len(part)
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (rows, *first.shape[1:])})
        assert file.tell() == start, "the header grew"


def join(folder: BlockFolder, out: Path, columns: Columns, **parts: Iterable[Array]) -> Block:
    """Write the blocks of a whole stage as `out/NAME.npy` and `out/manifest.json`, delete them, map what was written.

    `parts` are by name what is written in the place of a stage's own arrays.
    """
    try:
        for name, empty in columns.items():
            write_column(out / f"{name}.npy", parts.get(name, folder.parts(name)), empty)
        broken = [message for block in folder.read_all("broken") for message in block.broken]
    except OSError as error:
        raise cannot_write(out, error, elsewhere=folder.stage.elsewhere) from error
    manifest = json.dumps({**folder.manifest(), "broken": broken}, indent=2, ensure_ascii=False)
    write_atomically(out / MANIFEST, f"{manifest}\n", elsewhere=folder.stage.elsewhere)
    folder.remove()
    return read_joined(out, columns)


def read_joined(out: Path, columns: Columns) -> Block:
    """What `join` wrote, mapped into memory; a UserError where something is missing, cut off or damaged."""
    try:
        broken = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["broken"]
        arrays = {name: np.load(out / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in columns}
        return Block(arrays, [str(message) for message in broken])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(f"{out}: missing or damaged ({error}).") from error
