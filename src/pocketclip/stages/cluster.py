"""The engine `ray`: blocks computed by worker processes on one machine or many, through Ray Data.

Every worker opens the stage once, with one CPU core or one GPU of its own, and writes its blocks into the folder that
all machines share. Ray starts a worker that died anew and gives it the same block again.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pocketclip.errors import UserError, first_line, require
from pocketclip.hardware import available_cores
from pocketclip.stages.engine import Engine, compute_here
from pocketclip.stages.store import BlockFolder, OpenStage, first_difference

EngineName = Literal["local", "ray"]
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # or a driver under `uv run` uploads its whole working directory
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
SENT = ("POCKETCLIP_", "HF_")
"""Beginnings of the environment variables that workers get from the command."""
MAX_ATTEMPTS = 3
"""Worker processes that may die over one block before the whole stage stops."""
SHARED = "the cluster's machines must see the sources, the model and the output under the same paths."


@contextlib.contextmanager
def open_engine(name: EngineName, address: str | None = None) -> Iterator[Engine]:
    """An engine by its name, connected while the context lasts.

    Without the `address` of a Ray cluster it takes RAY_ADDRESS, or starts Ray on this machine with all cores.
    """
    if name == "local":
        if address is not None:
            raise UserError(f"--ray-address has no effect with the engine local (got {address!r}); add --engine ray.")
        yield compute_here
        return
    with _connected(address) as ray, contextlib.redirect_stdout(sys.stderr):  # Ray's notes go to stdout
        yield partial(_compute_on_ray, ray)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    ray = require("ray", extra="cluster")
    require("ray.data", extra="cluster")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():  # by the Python program we are part of, which also ends it
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    settings: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        # Only block numbers pass through the object store
        settings |= {"include_dashboard": False, "object_store_memory": 128 << 20, "num_cpus": available_cores()}
    try:
        ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"No Ray cluster at {address!r} ({first_line(error)}); start one: ray start --head.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _compute_on_ray(
    ray: Any, open_stage: OpenStage, folder: BlockFolder, numbers: Sequence[int]
) -> Iterator[tuple[int, list[str]]]:
    if len(numbers) == 1:  # done here before a worker would have started
        yield from compute_here(open_stage, folder, numbers)
        return
    unit = "GPU" if folder.stage.on_gpu else "CPU"
    resources = ray.cluster_resources()
    num_units = int(resources.get(unit, 0))
    if num_units == 0:
        raise UserError(f"The Ray cluster has no {unit}; give it one, or choose another --device.")
    cores = max(1, int(resources.get("CPU", 1)) // num_units)  # a GPU's worker decodes with its share of them
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    path = folder.path.resolve()
    sent = {name: value for name, value in os.environ.items() if name.startswith(SENT)}
    rows = ray.data.from_items(list(numbers), override_num_blocks=len(numbers)).map_batches(
        _Worker,
        fn_constructor_args=(open_stage, path, folder.manifest(), Path.cwd(), {**sent, "OMP_NUM_THREADS": str(cores)}),
        batch_size=1,
        num_cpus=cores,
        num_gpus=1 if folder.stage.on_gpu else 0,
        compute=ray.data.ActorPoolStrategy(size=min(num_units, len(numbers)), max_tasks_in_flight_per_actor=2),
    )
    for row in rows.iter_rows():
        if row["error"]:
            raise UserError(row["error"])
        yield int(row["number"]), json.loads(row["broken"])


class _Worker:
    """A process of the cluster with the stage open. Errors for the user travel back as values."""

    def __init__(
        self, open_stage: OpenStage, path: Path, manifest: dict[str, Any], place: Path, environment: dict[str, str]
    ) -> None:
        self.open_stage, self.path, self.manifest, self.place = open_stage, path, manifest, place
        os.environ.update(environment)
        self.folder: BlockFolder | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        number = int(batch["item"][0])
        try:
            self.folder = self.folder or self._open()
            return {"number": [number], "broken": [json.dumps(self._compute(self.folder, number))], "error": [""]}
        except UserError as reason:
            return {"number": [number], "broken": ["[]"], "error": [str(reason) or "unknown error"]}

    def _open(self) -> BlockFolder:
        try:
            os.chdir(self.place)  # sources and models may be given by relative paths
        except OSError as error:
            raise UserError(f"{self.place}: not on the machine {os.uname().nodename}; {SHARED}") from error
        if not self.path.is_dir():
            raise UserError(f"{self.path}: not on the machine {os.uname().nodename}; {SHARED}")
        folder = BlockFolder(self.path, self.open_stage())
        if difference := first_difference(self.manifest, folder.manifest()):
            raise UserError(
                f"The machine {os.uname().nodename} would compute something else: {difference}. "
                "Give all machines the same files and versions."
            )
        return folder

    def _compute(self, folder: BlockFolder, number: int) -> list[str]:
        """One block, tried `MAX_ATTEMPTS` times: Ray itself would try forever."""
        attempts = folder.file(number).with_suffix(".attempts")
        if attempts.exists() and attempts.stat().st_size >= MAX_ATTEMPTS:
            start, stop = folder.stage.bounds(number)
            raise UserError(
                f"Block {number} (samples {start} to {stop - 1}) ended {MAX_ATTEMPTS} worker processes, most likely "
                "for want of memory. Give each worker more, or start fewer: ray start --num-cpus."
            )
        with attempts.open("ab") as file:
            file.write(b"x")
        broken = folder.compute(number)
        attempts.unlink(missing_ok=True)
        return broken
