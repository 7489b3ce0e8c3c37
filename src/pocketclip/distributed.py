"""Several processes as one: who am I, what do the others hold, and sums over all of them that carry gradients.

`torchrun` starts the processes and tells each its rank in the environment. Everything here is a plain no-op in a
process that was started without it.

The losses of a batch that is split over ranks follow one convention: **the mean over ranks is the loss of the whole
batch**. So averaging the gradients, as DistributedDataParallel does, gives exactly the whole batch's.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pocketclip.errors import UserError
from pocketclip.hardware import available_cores

Result = TypeVar("Result")
PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others, which may be filling a cache; a rank that dies is noticed at once."""


def is_initialized() -> bool:
    """Whether this process is one of several that work together."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if is_initialized() else 1


def local_world_size() -> int:
    """Processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes files and shows progress."""
    return rank() == 0


@contextmanager
def started(device: str) -> Iterator[None]:
    """Join the other processes while open, where torchrun started several; `device` is `cpu`, `cuda` or `auto`.

    A process that stops with an error while others still work ends them too: they lose its connection, a UserError.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    else:  # torchrun allows one thread each, however many cores there are
        torch.set_num_threads(max(1, available_cores() // local_world_size()))
    # gloo beside nccl: numbers that the CPU needs are exchanged without waiting for the GPU
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield
        dist.barrier()  # or a rank that is done first would look like one that died
    except RuntimeError as error:
        if not is_of_another_rank(error):
            raise
        if threading.current_thread() is threading.main_thread():  # or torchrun's SIGTERM would end it without a word
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise UserError(
            f"Rank {rank()} of {world_size()}: another rank ended before its time, so this one stopped too "
            f"({str(error).splitlines()[0][:160]}). The cause is in that rank's own message; what was written is "
            "whole. Go on with the same command and --resume, with any number of processes."
        ) from error
    finally:
        dist.destroy_process_group()


def is_of_another_rank(error: Exception) -> bool:
    """Whether an error of this process only says that another one is gone."""
    if world_size() == 1 or not isinstance(error, RuntimeError):
        return False
    words = ("gloo", "nccl", "connection", "socket", "timed out")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def on_main(function: Callable[[], Result]) -> Result:
    """Call a function on rank 0 and return its result, or raise its UserError, on every rank."""
    if world_size() == 1:
        return function()
    outcome: list[Any] = [None]
    if is_main():
        try:
            outcome = [(function(), None)]
        except UserError as error:
            outcome = [(None, error)]
    dist.broadcast_object_list(outcome, src=0)
    result: Result
    result, failure = outcome[0]
    if failure is not None:
        raise failure
    return result


def gather_objects(value: Result) -> list[Result]:
    """The value that every rank brought, in the order of the ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def gather_numbers(*numbers: int) -> list[list[int]]:
    """One row of whole numbers a rank; travels over the CPU, so a GPU does not wait."""
    if world_size() == 1:
        return [list(numbers)]
    own = torch.tensor(numbers, dtype=torch.int64)
    rows = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(rows, own)
    return [row.tolist() for row in rows]


def share_bounds(total: int, size: int | None = None) -> list[int]:
    """Where each rank's share of `total` things begins, and the end of the last: shares differ by one at most."""
    size = size or world_size()
    return [total * number // size for number in range(size + 1)]


def own_share(total: int) -> slice:
    """The places of `total` that belong to this rank."""
    bounds = share_bounds(total)
    return slice(bounds[rank()], bounds[rank() + 1])


def weight_of_share(count: int, sizes: Sequence[int]) -> float:
    """What a mean over `count` of all ranks' `sizes` rows counts for, so that the mean over ranks is that over all."""
    return len(sizes) * count / sum(sizes) if len(sizes) > 1 else 1.0


@torch.no_grad()
def average_in_place(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type by their mean over ranks, in one message."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def gather(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The (n, ...) rows of every rank, one below the other, with exact gradients: a rank's loss may depend on all."""
    gathered: Tensor = _Gather.apply(rows, tuple(sizes)) if len(sizes) > 1 else rows
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
        ctx.sizes = sizes
        longest = max(sizes)
        own = rows.new_zeros((longest, *rows.shape[1:]))
        own[: len(rows)] = rows
        parts = [torch.empty_like(own) for _ in sizes]
        dist.all_gather(parts, own)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.split(ctx.sizes)[rank()], None


def sum_over_ranks(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sum of a tensor over ranks, without a gradient; the tensor where one rank holds all rows, as for `gather`."""
    total = values.detach().clone()
    if len(sizes) > 1:
        dist.all_reduce(total)
    return total


def log_sum_exp_over_ranks(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Log of the sum over ranks of exp(values), likewise; element by element, with exact gradients."""
    combined: Tensor = _LogSumExpOverRanks.apply(values) if len(sizes) > 1 else values
    return combined


class _LogSumExpOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        largest = values.clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        total = (values - largest).exp_()
        dist.all_reduce(total)
        combined = total.log_().add_(largest)
        ctx.save_for_backward(values, combined)
        return combined

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor]:
        values, combined = ctx.saved_tensors
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return (total * (values - combined).exp(),)


def pass_on(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> tuple[list[Tensor], list[Any]]:
    """Begin to send tensors to the rank before this one and to receive those of the rank behind, of these shapes.

    The returned buffers are filled once every one of the works was waited for.
    """
    size = world_size()
    buffers = [tensor.new_empty(shape) for tensor, shape in zip(tensors, shapes, strict=True)]
    operations = [dist.P2POp(dist.isend, tensor.contiguous(), (rank() - 1) % size) for tensor in tensors]
    operations += [dist.P2POp(dist.irecv, buffer, (rank() + 1) % size) for buffer in buffers]
    return buffers, dist.batch_isend_irecv(operations)
