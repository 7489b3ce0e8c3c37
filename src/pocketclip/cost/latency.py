"""How long one input takes, and how many a second a batch gives."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from pocketclip.asked import LibraryModel
from pocketclip.image_size import ImageSize, height_and_width, written
from pocketclip.models.running.runner import Runner
from pocketclip.stages.watch import SILENT, Watch

WARM_UP_SECONDS = 0.3
MIN_RUNS, FEWEST_RUNS = 20, 3
"""Calls of a timing, and how many of them are enough where they take long."""
LONG_SECONDS = 4.0
"""Of a timing; from then on the fewest calls will do."""


def time_calls(call: Callable[[], object], *, seconds: float) -> list[float]:
    """Milliseconds of each call, after a warm-up, for about `seconds` but at least `MIN_RUNS` calls.

    Where those take longer than `LONG_SECONDS`, there are fewer, down to `FEWEST_RUNS`.
    """
    started = time.perf_counter()
    while time.perf_counter() - started < WARM_UP_SECONDS:
        call()
    times: list[float] = []
    started = time.perf_counter()
    while True:
        elapsed = time.perf_counter() - started
        wanted = MIN_RUNS if elapsed < LONG_SECONDS else FEWEST_RUNS
        if len(times) >= wanted and elapsed >= seconds:
            return times
        before = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - before))


def latency(
    runner: Runner | LibraryModel,
    *,
    image_size: ImageSize,
    num_tokens: int,
    seconds: float = 1.0,
    batches: Sequence[int] = (1, 32),
    watch: Watch = SILENT,
) -> dict[str, float | int | str]:
    """p50 and p95 in milliseconds at batch 1, inputs a second at batch 32, for images and texts, and the conditions.

    Args:
        runner: as inference uses it: folded, in the device's fast number type; or another library's model.
        image_size: pixels of a side, or height and width. 0 for a model that knows texts only.
        num_tokens: of each text; captions have about 15. 0 for a model that knows images only.
        seconds: spent on each of the timings, four with both `batches`.
        batches: 1, and 32 where the inputs a second are asked for, too.
        watch: told of each of them.
    """
    result: dict[str, float | int | str] = {}
    num_runs = MIN_RUNS
    encode_texts = runner.encode_texts if isinstance(runner, LibraryModel) else runner.encode_tokens
    random = np.random.default_rng(0)
    for place, batch in enumerate(batches):
        pixels = random.integers(0, 256, (batch, *height_and_width(image_size), 3), dtype=np.uint8)
        tokens = np.ones((batch, num_tokens), dtype=np.int64)  # the smallest learned vocabularies have few ids
        mask = np.ones(tokens.shape, dtype=bool)
        calls: dict[str, Callable[[], object]] = {}
        if image_size:
            calls["image"] = partial(runner.encode_images, pixels)
        if num_tokens:
            calls["text"] = partial(encode_texts, tokens, mask)
        for number, (part, call) in enumerate(calls.items()):
            watch.work("timing", place * len(calls) + number, len(batches) * len(calls))
            times = time_calls(call, seconds=seconds)
            num_runs = min(num_runs, len(times))
            if batch == 1:
                result[f"latency_ms_p50_{part}"] = round(float(np.percentile(times, 50)), 3)
                result[f"latency_ms_p95_{part}"] = round(float(np.percentile(times, 95)), 3)
            else:
                result[f"throughput_{part}_per_second"] = round(1000 * batch / float(np.median(times)), 1)
    result["latency_ms_p50"] = round(sum(float(result[f"latency_ms_p50_{part}"]) for part in calls), 3)
    watch.work("timing", len(batches) * len(calls), len(batches) * len(calls))
    result |= {"num_threads": torch.get_num_threads(), "num_tokens": num_tokens}
    result["image_size"] = image_size if isinstance(image_size, int) else written(image_size)
    if num_runs < MIN_RUNS:
        result["num_runs"] = num_runs
    return {**result, "precision": runner.precision, "device": runner.device.type}
