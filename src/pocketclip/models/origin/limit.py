"""What a config asks for, weighed while it is built: against its weights' file, and against this machine's memory.

A config comes from anywhere, and one wrong number in it could ask for terabytes or for layers without end. Each
tensor is weighed when a module takes it in, which is before it is filled and so before it costs memory.
"""

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from pocketclip.errors import UserError, first_line

Shape = tuple[int, ...]
SPARE_VALUES = 4 << 20
"""A tower is built with parts that are dropped again, such as a pooler, and with masks that no file holds."""
SPARE_TENSORS = 1000
MAX_TENSORS = 200_000
"""Of a model that no file says more of; published ones have some thousand."""
_ALLOCATORS_WORDS = ("alloc", "overflow", "out of memory", "storage size", "too large", "numel")


def stored_shapes(path: Path) -> dict[str, Shape]:
    """Shapes by name from the header of a safetensors file.

    Raises:
        UserError: it is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file.")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        return {name: tuple(map(int, entry["shape"])) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot read weights from this file ({first_line(error)}).") from error


@contextmanager
def within_file(settings: Mapping[str, Any], weights: Path, *, place: str) -> Iterator[None]:
    """Build within this what `settings`, which stand at `place`, say, to be filled from a safetensors file.

    Raises:
        UserError: they ask for far more than the file has; it names the key and both sizes.
    """
    shapes = stored_shapes(weights)
    largest = max(shapes.values(), key=math.prod, default=())
    total = sum(map(math.prod, shapes.values()))
    numbers = list(_numbers(settings))
    cure = "They do not belong together; fetch or make the bundle anew."
    for key, value in numbers:
        if value > max(total, SPARE_VALUES):
            raise UserError(
                f"{place}.{key}: {value:,} is more than all the {total:,} values that {weights} holds. {cure}"
            )

    def check(shape: Shape, num_tensors: int, num_values: int) -> None:
        if math.prod(shape) > 4 * math.prod(largest) + SPARE_VALUES:
            keys = _keys(numbers, shape)
            raise UserError(
                f"{place}{keys} asks for a tensor of {shape}, and the largest in {weights} is {largest}. {cure}"
            )
        if num_tensors > 4 * len(shapes) + SPARE_TENSORS or num_values > 4 * total + 4 * SPARE_VALUES:
            keys = _keys(numbers, (), at_least=len(shapes))
            raise UserError(
                f"{place}{keys} asks for more than {num_tensors:,} tensors and {num_values:,} values, and {weights} "
                f"holds {len(shapes):,} and {total:,}. {cure}"
            )

    with _weighing(check):
        yield


@contextmanager
def within_memory(settings: Mapping[str, Any]) -> Iterator[None]:
    """Build within this what the `model` section of a recipe says.

    Raises:
        UserError: that is more than this machine's memory.
    """
    memory, numbers = _memory_bytes(), list(_numbers(settings))

    def check(shape: Shape, num_tensors: int, num_values: int) -> None:
        if num_tensors > MAX_TENSORS:
            raise UserError(f"model{_keys(numbers, (), at_least=10_000)}: asks for more than {MAX_TENSORS:,} tensors.")
        if memory and 4 * num_values > memory:
            raise UserError(
                f"model{_keys(numbers, shape)}: with a tensor of {shape} the weights need more than "
                f"{4 * num_values / 2**30:,.1f} GiB, and this machine has {memory / 2**30:,.1f}."
            )

    try:
        with _weighing(check):
            yield
    except (
        RuntimeError,
        MemoryError,
        OverflowError,
        TypeError,
        UserError,
    ) as error:  # towers wrap what their library raises
        is_of_size = isinstance(error, (MemoryError, OverflowError)) or any(
            word in str(error).lower() for word in _ALLOCATORS_WORDS
        )
        huge = [(key, value) for key, value in numbers if value >= 10_000]
        if not is_of_size or not huge:
            raise
        key, value = max(huge, key=lambda number: number[1])
        raise UserError(
            f"model.{key}: {value:,} asks for more than can be built here ({first_line(error)})."
        ) from error


@contextmanager
def _weighing(check: Any) -> Iterator[None]:
    """Tell `check` the shape of each tensor that a module takes in, with the tensors and values so far."""
    thread, counts = threading.get_ident(), [0, 0]

    def weigh(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is None or threading.get_ident() != thread:
            return
        counts[0] += 1
        counts[1] += 0 if tensor.is_meta else tensor.numel()
        check(tuple(tensor.shape), *counts)

    hooks = (register_module_parameter_registration_hook(weigh), register_module_buffer_registration_hook(weigh))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of nested settings with its dotted key."""
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield key, value
    elif isinstance(value, float) and math.isfinite(value) and value >= SPARE_VALUES:
        yield key, int(value)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part, key)


def _keys(numbers: Sequence[tuple[str, int]], shape: Shape, *, at_least: int = 0) -> str:
    """The keys whose numbers are in a shape, or the key of the largest number."""
    found = [(key, value) for key, value in numbers if value in shape and value > 1]
    if not shape:
        found = [(key, value) for key, value in numbers if value >= at_least and ("layer" in key or "block" in key)]
    found = found or list(numbers)
    if not found:
        return ""
    key, value = max(found, key=lambda number: number[1])
    return f".{key}: {value:,}"


def _memory_bytes() -> int:
    """Of this machine; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has none of it
        return 0
