"""Everything a run needs to go on exactly, written whole and bounded in number."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pocketclip.errors import UserError
from pocketclip.files import cannot_write


@dataclass(frozen=True)
class CheckpointFolder:
    """`step-00000120.pt`, ..., the newest `keep` of them, and `best.pt`; only `final.pt` when the stage is over.

    Those of `keep_steps` are beside them, `kept-00000100.pt`, and stay.
    """

    folder: Path
    keep: int = 2

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a step's checkpoint, then delete the oldest ones."""
        save_atomically(self.folder / f"step-{step:08d}.pt", state)
        for path in self.steps()[: -self.keep]:
            path.unlink(missing_ok=True)

    def keep_step(self, step: int, state: dict[str, Any]) -> None:
        """Write a step's checkpoint that stays."""
        save_atomically(self.folder / f"kept-{step:08d}.pt", state)

    def by_step(self) -> dict[int, Path]:
        """Every checkpoint that a run can go on from, by its step."""
        paths = [*self.steps(), *self.folder.glob("kept-*.pt")]
        return dict(sorted((int(path.stem.partition("-")[2]), path) for path in paths))

    def steps(self) -> list[Path]:
        """Checkpoints of steps, oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    @property
    def final(self) -> Path:
        """The weights that a finished stage ends with."""
        return self.folder / "final.pt"

    @property
    def best(self) -> Path:
        """The weights of the best evaluation so far."""
        return self.folder / "best.pt"

    def finish(self, state: dict[str, Any]) -> None:
        """Write `final.pt`; the rest is no longer needed and removed."""
        save_atomically(self.final, state)
        for path in [*self.steps(), self.best]:
            path.unlink(missing_ok=True)

    def load_newest(self) -> dict[str, Any] | None:
        """The final state, else the newest step's, or None; see `load`."""
        paths = [self.final] if self.final.is_file() else self.steps()
        return load(paths[-1]) if paths else None

    def load_best(self) -> dict[str, Any] | None:
        """That of the best evaluation, or None."""
        return load(self.best) if self.best.is_file() else None


def save_atomically(path: Path, state: dict[str, Any]) -> None:
    """Write a file of tensors and plain values whole or, with a UserError that names a full disk, not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch turns a failed write into RuntimeError
        temporary.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):
            error = OSError(0, str(error).splitlines()[0])
        raise cannot_write(path, error) from error


def load(path: Path) -> dict[str, Any]:
    """Read a file that `save_atomically` wrote; one that is damaged, or holds anything else, is a UserError."""
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch, zipfile and pickle raise types of their own
        raise UserError(
            f"{path}: cannot read this checkpoint ({str(error).splitlines()[0]}). "
            "Delete it to go on from the one before."
        ) from error


def random_states() -> dict[str, Any]:
    """The state of every generator a step may draw from."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put every generator back."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"][0])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))


def check_kept_steps(steps: Sequence[int], num_steps: int, name: str) -> None:
    """Refuse a stage's `keep_steps` that it never comes to."""
    if max(steps, default=0) > num_steps:
        raise UserError(f"{name}.keep_steps: the run ends at step {num_steps} (got {max(steps)}).")
