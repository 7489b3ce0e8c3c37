"""The ways to run a tower, and which is the quickest here: measured once for a machine and a tower, then remembered.

`eager` needs no set-up; `compiled` (torch.compile) and `onnx` (ONNX Runtime, float32, CPU) first take some seconds to
a minute. So what counts is the time of the whole job, set-up included, and a short job is not worth measuring.
"""

import importlib.util
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketclip.errors import UserError, first_line, unknown_choice
from pocketclip.hardware import describe_hardware
from pocketclip.models.running.backend_calls import Call, Inputs, in_chunks, one_core_each, onnx_session
from pocketclip.models.running.backend_memory import Backend, Timing, recall, remember
from pocketclip.models.running.precision import Precision, autocast
from pocketclip.models.running.threads import THREADS

Inference = Literal["auto", "eager", "compiled", "onnx"]

MIN_COSINE, MEAN_COSINE = 0.99, 0.999
"""Least similarity to the features of the same inputs in float32: of the worst one, and on average."""
FEW_ITEMS = 1_000
"""Fewer are not worth the second it takes to see how fast `eager` is."""
LONG_SECONDS = 60.0
"""Jobs that `eager` would take this long for are worth setting up the others: a compilation takes 15 to 60 s."""


def requested_inference(value: str) -> Inference:
    """The backend asked for; in place of `auto`, the one that the environment variable POCKETCLIP_INFERENCE names.

    Raises:
        UserError: no such backend.
    """
    given = os.environ.get("POCKETCLIP_INFERENCE") or "auto" if value == "auto" else value
    if given not in get_args(Inference):
        place = "POCKETCLIP_INFERENCE" if value == "auto" else "inference"
        raise UserError(f"{place}: {unknown_choice('backend', given, get_args(Inference))}")
    return cast(Inference, given)


def quickest(timings: Mapping[Backend, Timing], num_items: int) -> Backend:
    """The backend that is through with a job first; `eager` where none is better.

    Set-up counts even where it is already paid: a run that goes on with another's features must choose the same.
    """
    allowed = {name: value for name, value in timings.items() if not value.refused}
    return min(allowed, key=lambda name: (allowed[name].seconds(num_items), name != "eager"), default="eager")


class Backends:
    """The ways to run one tower.

    Args:
        eager: the tower as it runs without set-up.
        make: gives the tower in a number type, without operators that only `eager` knows.
        examples: batches of typical inputs, each of as many rows as `compiled` and `onnx` are to take at a time.
        precision: of `eager` and `compiled`.
        made_from: what speed depends on beside machine and torch.
    """

    def __init__(
        self,
        eager: nn.Module,
        make: Callable[[Precision], nn.Module],
        examples: Sequence[Inputs],
        *,
        precision: Precision,
        made_from: Mapping[str, object],
    ) -> None:
        self.eager, self.make, self.examples = eager, make, examples
        self.precision, self.device = precision, examples[0][0].device
        machine = {"hardware": describe_hardware(), "threads": THREADS.most, "torch": torch.__version__}
        self.made_from = {**made_from, **machine, "device": self.device.type}
        self._calls: dict[Backend, Call] = {}

    def candidates(self) -> list[Backend]:
        """Those that this installation can try."""
        names: list[Backend] = ["eager"]
        compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")
        if self.device.type != "cpu" or any(shutil.which(name) for name in compilers):
            names.append("compiled")
        if self.device.type == "cpu" and all(map(importlib.util.find_spec, ("onnxruntime", "onnxscript"))):
            names.append("onnx")
        return names

    def call(self, name: Backend) -> Call:
        """The tower in that backend, set up when first asked for.

        Raises:
            UserError: it cannot be set up here.
        """
        if name not in self._calls:
            self._calls[name] = self._set_up(name)
        return self._calls[name]

    def choose(self, num_items: int) -> Backend:
        """The backend for a job of so many items; measures what is not yet known where the job is long enough."""
        known = recall(self.made_from)
        if "eager" not in known:
            if num_items < FEW_ITEMS:
                return "eager"
            known = {"eager": Timing(items_per_second=self.rates(["eager"], rounds=1)["eager"])}
            remember(self.made_from, known)
        candidates = self.candidates()
        if known["eager"].seconds(num_items) >= LONG_SECONDS and set(candidates) - set(known):
            known = self.measure(candidates)
            remember(self.made_from, known)
        return quickest({name: known[name] for name in candidates if name in known}, num_items)

    def measure(self, names: Sequence[Backend]) -> dict[Backend, Timing]:
        """Set up, compare with float32 and time each of the backends."""
        expected = self._features(self._under_autocast(self.make("float32"), "float32"))
        timings: dict[Backend, Timing] = {}
        for name in names:
            try:
                with one_core_each():
                    first, again = (self._timed_set_up(name) for _ in range(2))  # the second finds the compiler's cache
                    cosines = F.cosine_similarity(self._features(self.call(name)), expected, dim=1)
            except Exception as error:  # compilers and exporters fail in many ways, and `eager` is always there
                self._calls.pop(name, None)
                timings[name] = Timing(refused=f"could not be set up: {first_line(error)}")
                continue
            low, mean = float(cosines.min()), float(cosines.mean())
            reason = f"cosine to float32 {low:.4f} at worst, {mean:.5f} on average"
            is_eager = name == "eager"
            timings[name] = Timing(
                setup_seconds=0.0 if is_eager else round(again, 2),
                first_setup_seconds=0.0 if is_eager else round(first, 2),
                min_cosine=low,
                mean_cosine=mean,
                refused="" if is_eager or (low >= MIN_COSINE and mean >= MEAN_COSINE) else reason,
            )
        rates = self.rates([name for name, timing in timings.items() if not timing.refused])
        return {name: timings[name].model_copy(update={"items_per_second": rates.get(name, 0.0)}) for name in timings}

    def rates(self, names: Sequence[Backend], *, rounds: int = 5) -> dict[Backend, float]:
        """Items a second of each, by one thread a core as sources are encoded.

        They take turns and the best round counts, as other programs may be running.
        """
        seconds = dict.fromkeys(names, float("inf"))
        alone = partial(torch.set_num_threads, 1)
        with one_core_each() as num_threads, ThreadPoolExecutor(num_threads, initializer=alone) as pool:
            for _, name in itertools.product(range(1 + rounds), names):  # the first round warms up
                call = self.call(name)
                started = time.perf_counter()
                list(pool.map(self._features, [call] * num_threads))
                seconds[name] = min(seconds[name], time.perf_counter() - started)
        num_items = num_threads * sum(len(example[0]) for example in self.examples)
        return {name: round(num_items / value, 1) for name, value in seconds.items()}

    def _timed_set_up(self, name: Backend) -> float:
        started = time.perf_counter()
        self._calls.pop(name, None)
        self._features(self.call(name))
        return time.perf_counter() - started

    @torch.inference_mode()
    def _features(self, call: Call) -> Tensor:
        """Of all examples."""
        return torch.cat([call(*example).float().cpu() for example in self.examples])

    def _set_up(self, name: Backend) -> Call:
        rows = len(self.examples[0][0])
        if name == "eager":
            return self._under_autocast(self.eager, self.precision)
        if name == "compiled":
            if "compiled" not in self.candidates():
                raise UserError("inference: 'compiled' needs a C++ compiler, and there is none here; install g++.")
            return in_chunks(self._compiled(), rows)
        return in_chunks(onnx_session(self.make("float32"), self.examples[0]), rows)

    def _under_autocast(self, run: Call, precision: Precision) -> Call:
        def call(*inputs: Tensor) -> Tensor:
            with autocast(precision, self.device):
                return run(*inputs)

        return call

    def _compiled(self) -> Call:
        run = self._under_autocast(torch.compile(self.make(self.precision)), self.precision)
        ready: set[int] = set()
        lock = threading.Lock()

        def call(*inputs: Tensor) -> Tensor:
            for tensor in inputs:
                if tensor.ndim == 2:  # texts: any number of tokens shares one compilation
                    torch._dynamo.maybe_mark_dynamic(tensor, 1)
            num_threads = torch.get_num_threads()  # torch compiles anew for another number
            if num_threads in ready:
                return run(*inputs)
            # Freezing packs the weights for oneDNN; without it bfloat16 convolutions ran at a tenth of the speed
            with lock, torch._inductor.config.patch(freezing=self.device.type == "cpu"):
                features = run(*inputs)
            ready.add(num_threads)
            return features

        return call
