"""Numbers of pictures and captions on disk, which only save time: beside the cache of features, a file a source."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError
from pocketclip.files import cache_root, write_atomically

Numbers = npt.NDArray[Any]


def read_numbers(name: str, count: int, dtype: npt.DTypeLike) -> Numbers | None:
    """What `keep_numbers` wrote by this name, (count,) of a type; None where it is not there, damaged or of others."""
    with suppress(OSError, ValueError, EOFError):
        numbers = np.load(_file(name), allow_pickle=False)
        if numbers.shape == (count,) and numbers.dtype == dtype:
            return np.asarray(numbers)
    return None


def keep_numbers(name: str, numbers: Numbers) -> Numbers:
    """Keep (N,) numbers by a name that changes with what they are of, and give them back; a full disk keeps none."""
    buffer = io.BytesIO()
    np.save(buffer, numbers, allow_pickle=False)
    with suppress(OSError, UserError):  # without a cache they are computed again
        _file(name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(name), buffer.getvalue())
    return numbers


def _file(name: str) -> Path:
    return cache_root() / "identity" / f"{name}.npy"
