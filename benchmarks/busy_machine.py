"""What other work on the same cores costs: one image, 32 images and training steps, by threads and by how they wait.

    uv run python benchmarks/busy_machine.py --write

Beside nothing, beside a plain busy loop of one process, and beside a training of this product on drawn scenes. The
model is the quickstart's. torch brings GNU OpenMP (libgomp), whose idle threads spin for some milliseconds before they
sleep: OMP_WAIT_POLICY=passive lets them sleep at once, active never, and GOMP_SPINCOUNT says how long they spin.
KMP_BLOCKTIME, Intel's and LLVM's word for it, has no effect on libgomp; it is tried where torch brings theirs. "chosen"
is what happens where nobody says anything, and OMP_NUM_THREADS fixes the threads of all other rows. Medians and the
best of all calls in milliseconds. --quickstart adds the wall time of the whole quickstart in each company.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from record import arguments, finish

RECIPE = "quickstart/openmoji"
COMPANIES = ("idle", "busy_loop", "training")
WAYS: dict[str, dict[str, str]] = {
    "chosen": {},
    "1_thread": {"OMP_NUM_THREADS": "1"},
    "2_threads": {"OMP_NUM_THREADS": "2"},
    "2_threads_active": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "active"},
    "2_threads_passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    "2_threads_spin_1000": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "1000"},
    "2_threads_spin_10000": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "10000"},
}
OTHER_OPENMP = {"2_threads_blocktime_0": {"OMP_NUM_THREADS": "2", "KMP_BLOCKTIME": "0"}}
OLD_TRAINING = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
"""The company that trains has a thread a core, as any program with torch, but beside "chosen", where it chooses too."""


def openmp() -> str:
    """The OpenMP library that torch has loaded, by its file's name."""
    import torch

    maps = Path("/proc/self/maps")
    lines = maps.read_text().split() if maps.is_file() else []
    known = ("libgomp", "libiomp", "libomp")
    found = sorted({Path(word).name for word in lines if Path(word).name.startswith(known)})
    return ", ".join(found) or torch.__config__.parallel_info().splitlines()[3]


def calls() -> dict[str, Callable[[], object]]:
    """What is timed."""
    import numpy as np
    import torch

    from pocketclip.models.build import build_model
    from pocketclip.models.running.precision import autocast
    from pocketclip.models.running.runner import Runner
    from pocketclip.objectives.config import ContrastiveObjectiveConfig
    from pocketclip.recipe import load_recipe
    from pocketclip.train.optimizer import build_optimizer
    from pocketclip.train.rates import AdamWConfig, LearningRates
    from pocketclip.train.step import train_step
    from pocketclip.types import ImageTextBatch

    cpu, config = torch.device("cpu"), load_recipe(RECIPE).model
    asked, heads, towers = (build_model(config, load_pretrained=False) for _ in range(3))
    size = config.image_encoder.image_size
    runner = Runner(asked, device=cpu, image_size=size)
    pixels = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), dtype=np.uint8)
    words = np.random.default_rng(0).integers(1000, 20_000, (1, 8))

    def step(model: Any, images: torch.Tensor, tokens: torch.Tensor, rates: LearningRates) -> Callable[[], object]:
        ids = torch.arange(len(images))
        batch = ImageTextBatch(images, tokens, torch.ones(tokens.shape, dtype=torch.bool), ids, ids)
        optimizer = build_optimizer(model.train(), AdamWConfig(), rates)
        objective = ContrastiveObjectiveConfig().build()
        return lambda: train_step(
            model, objective, batch, optimizer, autocast=lambda: autocast("auto", cpu), max_grad_norm=1.0
        )

    features = [torch.randn(256, tower.feature_dim) for tower in (heads.image_encoder, heads.text_encoder)]
    pictures = torch.randint(0, 256, (16, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    everything = LearningRates(heads=1e-3, image_encoder=1e-4, text_encoder=1e-4)
    return {
        "one_image": lambda: runner.encode_images(pixels[:1]),
        "one_sentence": lambda: runner.encode_tokens(words, np.ones(words.shape, dtype=bool)),
        "32_images": lambda: runner.encode_images(pixels),
        "step_of_heads": step(heads.heads_only(), features[0], features[1], LearningRates(heads=1e-3)),
        "step_of_towers": step(towers, pictures, torch.randint(1000, 20_000, (16, 12)), everything),
    }


def measure(seconds: float) -> dict[str, Any]:
    """Medians and best times, each over some seconds; the threads follow the load between them, as in a run."""
    import torch

    from pocketclip.hardware import keep_freed_memory
    from pocketclip.models.running.threads import THREADS

    keep_freed_memory()
    values: dict[str, Any] = {}
    for name, call in calls().items():
        THREADS.fit()
        call()
        times, started = list[float](), time.perf_counter()
        while len(times) < 5 or time.perf_counter() - started < seconds:
            before = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - before))
        values[name] = {"median_ms": round(statistics.median(times), 1), "best_ms": round(min(times), 1)}
        values[name]["torch_threads"] = torch.get_num_threads()
    return {**values, "openmp": openmp()}


@contextmanager
def beside(company: str, environment: dict[str, str]) -> Iterator[None]:
    """While open, other work runs."""
    if company == "idle":
        yield
        return
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-c", "while True: pass"]
        if company == "training":
            scenes = "{kind: scenes, count: 512, image_size: 160}"
            changes = [
                f"data.train={scenes}", f"data.val={scenes}", "data.test=null", "train.cache=null",
                "train.learning_rate={heads: 0.001, image_encoder: 0.0001, text_encoder: 0.0001}",
                "train.batch_size=32", "train.num_epochs=100000", "train.evaluate_every=null",
                "train.schedule={kind: constant}",
            ]  # fmt: skip
            words = [word for change in changes for word in ("--set", change)]
            command = [sys.executable, "-m", "pocketclip", "train", RECIPE, "--out", f"{place}/run", *words]
        log = Path(place) / "log"
        with log.open("w") as output:
            other = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **environment}, start_new_session=True
            )
        try:
            if company == "training":
                wait_for(Path(place) / "run" / "metrics.jsonl", other, log)
            yield
        finally:
            ended = other.poll() is not None
            if not ended:
                os.killpg(other.pid, signal.SIGKILL)
            other.wait()
        if ended:
            sys.exit(f"the other work ended before its time:\n{log.read_text()[-2000:]}")


def wait_for(path: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the training is past its first steps."""
    for _ in range(600):
        if path.is_file() and path.stat().st_size:
            return
        if process.poll() is not None:
            break
        time.sleep(0.5)
    sys.exit(f"the other training did not begin:\n{log.read_text()[-2000:]}")


def in_a_process(environment: dict[str, str], *words: object) -> dict[str, Any]:
    """This script's own measurement, with some variables set from its first moment."""
    command = [sys.executable, sys.argv[0], *map(str, words)]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**kept, **environment})
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


def quickstart_seconds(environment: dict[str, str]) -> float:
    """Of the whole command, with an empty feature cache."""
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pocketclip", "quickstart", "--out", f"{place}/run"],
            check=True,
            capture_output=True,
            env={**os.environ, **environment, "POCKETCLIP_CACHE": f"{place}/cache"},
        )
        return round(time.perf_counter() - started, 1)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the other work would go on for ever
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="spent on each timing")
    parser.add_argument("--ways", nargs="*", default=[*WAYS, *OTHER_OPENMP], help=f"of {', '.join(WAYS)}")
    parser.add_argument("--companies", nargs="*", default=list(COMPANIES), choices=COMPANIES)
    parser.add_argument("--quickstart", action="store_true")
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.seconds)))
        return
    library = in_a_process({}, "--measure", "--seconds", 0)["openmp"]
    ways = {**WAYS, **({} if "gomp" in library else OTHER_OPENMP)}
    values: dict[str, Any] = {"what": "milliseconds a call", "openmp": library, "seconds": options.seconds}
    for company in options.companies:
        found: dict[str, Any] = {}
        for name in (name for name in ways if name in options.ways):
            with beside(company, {} if name == "chosen" else OLD_TRAINING):
                found[name] = in_a_process(ways[name], "--measure", "--seconds", options.seconds)
                del found[name]["openmp"]
                print(company, name, json.dumps(found[name]), file=sys.stderr)
        if options.quickstart:
            with beside(company, {}):
                found["quickstart_seconds"] = quickstart_seconds({})
        values[company] = found
    if options.quickstart and "idle" in values:
        idle = values["idle"]["quickstart_seconds"]
        for company in (name for name in COMPANIES[1:] if name in values):
            values[f"quickstart_ratio_{company}"] = round(values[company]["quickstart_seconds"] / idle, 2)
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
