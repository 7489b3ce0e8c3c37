"""`metrics.jsonl`: one JSON object a line, in the order of the steps; and TensorBoard beside it when wanted."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketclip.errors import DivergedError, UserError, require
from pocketclip.files import cannot_write, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from pocketclip.train.checkpoint import CheckpointFolder


class MetricsFile:
    """Appends to a run's metrics; a resumed run first cuts what came after its checkpoint.

    The stage is written into every line. With `tensorboard` there are events in `tensorboard/` beside it, too.
    """

    def __init__(self, path: Path, stage: str, *, tensorboard: bool = False) -> None:
        self.path = path
        self.stage = stage
        self.newest: dict[str, float] = {}
        self._module = require("torch.utils.tensorboard", extra="tensorboard") if tensorboard else None
        self._writer: Any = None
        self._purge_step: int | None = None

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> int:
        """Add a line; returns the file's size, which a checkpoint keeps. A full disk is a UserError."""
        self.newest.update(values)
        line = json.dumps({"stage": self.stage, "step": step, "epoch": round(epoch, 4), **values})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                size = file.tell()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if self._module is not None:
            if self._writer is None:
                events = self.path.parent / "tensorboard" / self.stage
                self._writer = self._module.SummaryWriter(str(events), purge_step=self._purge_step)
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
        return size

    def start_over(self) -> None:
        """Forget this stage's lines: it was killed before its first checkpoint."""
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if f'"stage": "{self.stage}"' not in line]
        if len(kept) < len(lines):
            write_atomically(self.path, "".join(f"{line}\n" for line in kept))

    def cut(self, size: int, step: int) -> None:
        """Forget what came behind a checkpoint of `step`."""
        self._purge_step = step + 1
        if self.path.is_file() and self.path.stat().st_size > size:
            with self.path.open("r+b") as file:
                file.truncate(size)


def mean_of_steps(
    steps: "Sequence[tuple[int, Mapping[str, Tensor]]]", stage: str, checkpoints: "CheckpointFolder"
) -> dict[str, float]:
    """Bring the scalars of some steps to the CPU in one go and average them, over ranks too; all must be finite."""
    import torch

    from pocketclip import distributed

    names = list(steps[-1][1])
    values = torch.stack([torch.stack([scalars[name].float() for name in names]) for _, scalars in steps])
    distributed.average_in_place([values])
    rows = values.cpu()
    bad = (~torch.isfinite(rows).all(dim=1)).nonzero()
    if len(bad):
        first = int(bad[0])
        shown = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, rows[first], strict=True))
        saved = checkpoints.steps()
        cure = f"Go on from {saved[-1]} with --resume and" if saved else "Start again with"
        raise DivergedError(
            f"{stage}: step {steps[first][0]}: the loss is not finite ({shown}). {cure} a lower learning rate, "
            "a lower max_grad_norm or precision=float32."
        )
    return {name: float(value) for name, value in zip(names, rows.mean(dim=0), strict=True)}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Every line of a run's `metrics.jsonl`, which must be there; a last line cut off by a kill is dropped."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no metrics here; is this a run folder?")
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
