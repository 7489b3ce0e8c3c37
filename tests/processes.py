"""Runs a function as several ranks, as torchrun would start them."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.multiprocessing


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _as_rank(
    rank: int, function: Callable[..., Any], size: int, port: int, folder: str, values: tuple[Any, ...]
) -> None:
    from pocketclip import distributed

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    with distributed.started("cpu"):
        result = function(rank, *values)
    torch.save(result, Path(folder) / f"{rank}.pt")


def run_ranks(function: Callable[..., Any], size: int, *values: Any) -> list[Any]:
    """What `function(rank, *values)` returned on every rank; the function is in a module of its own."""
    with TemporaryDirectory() as folder:
        arguments = (function, size, free_port(), folder, values)
        torch.multiprocessing.start_processes(_as_rank, arguments, nprocs=size, start_method="fork")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(size)]
