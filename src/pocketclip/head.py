"""A classifier that was learned on a model's embeddings, kept in a file of its own: safetensors, never pickle."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError, first_line
from pocketclip.files import make_folder_of, no_such, write_atomically
from pocketclip.inputs import called
from pocketclip.records import EvalResult, record_of

MAX_BYTES = 1 << 30
"""Of a file; ImageNet's thousand classes on 1,024 numbers are 4 MiB."""
MAX_HEADER_BYTES = 16 << 20
KIND = "pocketclip.head"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)  # arrays have no single answer to whether they are equal
class Head:
    """C classes of embeddings of D numbers."""

    weight: Floats
    """(C, D)."""
    bias: Floats
    """(C,)."""
    class_names: tuple[str, ...]
    model: str
    """On whose embeddings it was learned, as a user writes it."""
    model_identity: str
    """`Embedder.image_identity` of that model."""
    measured: EvalResult | None = None
    """What it scores, and on what."""

    def __post_init__(self) -> None:
        weight, bias, count = self.weight, self.bias, len(self.class_names)
        if weight.ndim != 2 or bias.shape != (count,) or len(weight) != count:
            raise ValueError(f"weight {weight.shape} and bias {bias.shape} do not fit {count} class names")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError("its weights are not finite")
        if count < 2 or len(set(self.class_names)) < count:
            raise ValueError("it needs two class names at least, and none twice")

    def __call__(self, embeddings: Floats) -> Floats:
        """(B, D) embeddings to (B, C) logits."""
        logits: Floats = embeddings @ self.weight.T + self.bias
        return logits

    @classmethod
    def load(cls, place: str | Path) -> Self:
        """Read one from its file.

        Raises:
            UserError: it is missing, too large, damaged, or another kind of file.
        """
        if not isinstance(place, (str, os.PathLike)):
            raise UserError(f"head: is {called(place)}; give a file of pocketclip evaluate --keep-head, or a Head.")
        path = Path(place).expanduser()
        if not path.exists():
            raise no_such("head of a model", place)
        try:
            if not path.is_file():
                raise ValueError("it is a folder" if path.is_dir() else "it is no file")
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise ValueError(f"{size:,} bytes, and a head has at most {MAX_BYTES:,}")
            data = path.read_bytes()
            described = _described(data)
            from safetensors.numpy import load

            tensors = load(data)
            return cls(
                tensors["weight"],
                tensors["bias"],
                described["class_names"],
                described["model"],
                described["model_identity"],
                described["measured"],
            )
        except Exception as error:  # safetensors has errors of its own, and a header may say anything
            raise UserError(
                f"{path}: no head that can be read ({first_line(error)}); learn it again: "
                "pocketclip evaluate MODEL --task linear_probe --data SOURCE --keep-head FILE"
            ) from error

    def save(self, path: Path) -> Path:
        """Write the file, whole or not at all."""
        from safetensors.numpy import save

        described: dict[str, Any] = {
            "class_names": list(self.class_names),
            "model": self.model,
            "model_identity": self.model_identity,
            "measured": None if self.measured is None else self.measured.to_json(),
        }
        tensors = {"weight": np.ascontiguousarray(self.weight), "bias": np.ascontiguousarray(self.bias)}
        content = save(tensors, {"kind": KIND, "head": json.dumps(described)})
        make_folder_of(path, elsewhere="--keep-head")
        write_atomically(path, content, elsewhere="--keep-head")
        return path


def _described(data: bytes) -> dict[str, Any]:
    """What the header says beside the tensors, after a look at what it would have us allocate."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError("it is cut off, or no safetensors file")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    if metadata.get("kind") != KIND:
        raise ValueError("it holds weights of something else")
    kinds = {name: entry["dtype"] for name, entry in header.items()}
    if kinds != {"weight": "F32", "bias": "F32"}:
        raise ValueError(f"it holds {kinds}, and a head a weight and a bias of F32")
    head = json.loads(metadata["head"])
    names, measured = head["class_names"], head["measured"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its class names are none")
    record = None if measured is None else record_of(measured, place="measured")
    if not isinstance(record, EvalResult | None):
        raise ValueError("what it was measured at is no measurement")
    texts = {key: str(head[key]) for key in ("model", "model_identity")}
    return {"class_names": tuple(names), "measured": record, **texts}


def check_place(path: Path) -> None:
    """A UserError where a head cannot be put: no folder can be made there, or something else would be lost."""
    if path.exists():
        try:
            Head.load(path)
        except UserError as error:
            raise UserError(f"--keep-head {path}: is there, and is no head; choose another name.") from error
    make_folder_of(path, elsewhere="--keep-head")


def probabilities(names: Sequence[str], logits: npt.NDArray[np.floating[Any]]) -> list[dict[str, float]]:
    """The softmax over classes of each row, by their names, most probable first."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    return [{names[number]: float(row[number]) for number in np.argsort(-row, kind="stable")} for row in shares]
