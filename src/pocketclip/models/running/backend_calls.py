"""How a tower is called by backends: in chunks of one size, in ONNX Runtime, and with one core a thread."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.errors import require
from pocketclip.models.running.threads import THREADS

Inputs = tuple[Tensor, ...]
Call = Callable[..., Tensor]
"""Inputs of any number of rows to (rows, F) features."""


@contextmanager
def one_core_each() -> Iterator[int]:
    """How many threads work at once on an idle machine, while this thread has only one."""
    before = torch.get_num_threads()
    num_threads = THREADS.most
    torch.set_num_threads(1)
    try:
        yield num_threads
    finally:
        torch.set_num_threads(before)


def in_chunks(call: Call, rows: int) -> Call:
    """Give `call` exactly `rows` rows at a time, so that it is set up for one shape; the last row fills up.

    Texts, which come as tokens and mask, are cut at the longest of their chunk.
    """

    def run(*inputs: Tensor) -> Tensor:
        features = []
        for start in range(0, len(inputs[0]), rows):
            chunk = tuple(tensor[start : start + rows] for tensor in inputs)
            count = len(chunk[0])
            if len(chunk) == 2:
                longest = max(2, int(chunk[1].sum(1).max()))  # a dimension of 1 would be compiled apart
                chunk = tuple(F.pad(tensor, (0, max(0, longest - tensor.shape[1])))[:, :longest] for tensor in chunk)
            if count < rows:
                missing = rows - count
                chunk = tuple(torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])]) for tensor in chunk)
            features.append(call(*chunk)[:count])
        return torch.cat(features)

    return run


def onnx_session(tower: nn.Module, example: Inputs) -> Call:
    """A tower in ONNX Runtime for the example's number of rows and any number of tokens.

    Raises:
        UserError: a package is missing.
    """
    runtime = require("onnxruntime", package="onnxruntime onnxscript")
    require("onnxscript", package="onnxruntime onnxscript")
    shapes = tuple({1: torch.export.Dim.DYNAMIC} if tensor.ndim == 2 else None for tensor in example)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.onnx"
        program = torch.onnx.export(
            tower.eval(), tuple(tensor.clone() for tensor in example), dynamo=True, dynamic_shapes=shapes, verbose=False
        )
        assert program is not None
        program.save(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # sources are encoded by one thread a core
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def call(*inputs: Tensor) -> Tensor:
        feeds = {name: tensor.contiguous().numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feeds)[0])

    return call
