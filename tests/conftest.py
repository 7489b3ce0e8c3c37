"""Fixtures that several folders share. Nothing here needs a network, a GPU or data from outside."""

import io
import json
import os
import signal
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pocketclip.preprocess import PreprocessConfig
from pocketclip.stages.watch import Watch
from pocketclip.tokenizer import Tokenizer, train_tokenizer

if TYPE_CHECKING:
    from pocketclip.asked.bundle import PretrainedModel

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there: small tensors, and a process a core
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the hub fails at once instead of waiting


@pytest.fixture(autouse=True, scope="session")
def usual_ctrl_c() -> None:
    """Python's own handler, which a suite that was started in the background does not inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def autograd_comes_first() -> None:
    """torch.compile registers devices, and an autograd engine that starts after it refuses to work in forks.

    Tests that start ranks fork (processes.py), and may come after one that compiles.
    """
    if "torch" in sys.modules:  # as it is where any test of this session needs it
        import torch

        torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own feature cache and no data folder."""
    monkeypatch.setenv("POCKETCLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("POCKETCLIP_DATA", str(tmp_path_factory.mktemp("no-data")))


def normalize_pixels(pixels: npt.NDArray[np.uint8], config: PreprocessConfig) -> npt.NDArray[np.float32]:
    """(B, H, W, 3) bytes to (B, 3, H, W) floats with a tower's mean and standard deviation."""
    mean, std = np.array(config.mean, np.float32), np.array(config.std, np.float32)
    return np.ascontiguousarray(((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))


def encode_picture(seed: int = 0, size: tuple[int, int] = (32, 24), kind: str = "JPEG") -> bytes:
    """A smooth random picture, encoded."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    output = io.BytesIO()
    image.save(output, kind)
    return output.getvalue()


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a folder of `count` pictures with captions beside them."""

    def make(count: int = 8, captions: int = 2, name: str = "photos") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:03d}.jpg").write_bytes(encode_picture(number))
            lines = [f"picture {number} caption {line}" for line in range(captions)]
            (folder / f"{number:03d}.txt").write_text("\n".join(lines) + "\n")
        return folder

    return make


@pytest.fixture
def write_tar(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes members, as (name, bytes), into a shard."""

    def write(name: str, members: Sequence[tuple[str, bytes]]) -> Path:
        with tarfile.open(tmp_path / name, "w", format=tarfile.USTAR_FORMAT) as archive:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Knows the words of `make_folder`'s captions."""
    texts = [f"picture {number} caption {line}" for number in range(20) for line in range(5)]
    return train_tokenizer(texts, vocabulary_size=200, context_length=16)


def tiny_model_settings() -> dict[str, object]:
    """The `model` section of a recipe that trains in milliseconds a step."""
    return {
        "image_encoder": {"kind": "timm", "name": "test_efficientnet", "pretrained": "none", "image_size": 32},
        "text_encoder": {
            "kind": "huggingface",
            "name": "tiny-bert",
            "pretrained": "none",
            "tokenizer": "captions",
            "vocabulary_size": 300,
            "context_length": 16,
        },
        "image_head": {"kind": "linear"},
        "text_head": {"kind": "residual_mlp"},
        "embed_dim": 16,
    }


def tiny_recipe_settings(**train: object) -> dict[str, object]:
    """A whole recipe on drawn scenes; `train` changes its settings."""
    settings: dict[str, object] = {"num_steps": 4, "batch_size": 4, "learning_rate": {"heads": 0.001}}
    if "cache" not in train:
        settings["learning_rate"] = {"heads": 0.001, "image_encoder": 0.001, "text_encoder": 0.001}
        settings["num_workers"] = 0
    return {
        "data": {
            "train": {"kind": "scenes", "count": 24, "image_size": 32},
            "val": {"kind": "scenes", "count": 8, "seed": 1, "image_size": 32},
        },
        "model": tiny_model_settings(),
        "objective": {"kind": "contrastive"},
        "train": {**settings, **train},
    }


@pytest.fixture
def tiny_recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes `tiny_recipe_settings` as a YAML file."""

    def write(**train: object) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(json.dumps(tiny_recipe_settings(**train)))  # JSON is YAML
        return path

    return write


def build_tiny_pretrained() -> "PretrainedModel":
    """An untrained model that embeds in milliseconds, on the CPU in float32."""
    import torch

    from pocketclip.asked.bundle import PretrainedModel
    from pocketclip.models.build import build_model
    from pocketclip.models.config import DualEncoderConfig
    from pocketclip.tokenizer import train_tokenizer

    torch.manual_seed(0)
    config = DualEncoderConfig.parse(tiny_model_settings(), place="tiny")
    captions = [
        f"{size} {colour} {shape}"
        for size in ("small", "large")
        for colour in ("red", "blue")
        for shape in ("circle", "square", "star")
    ]
    tokenizer = train_tokenizer(captions, vocabulary_size=300, context_length=16)
    model = build_model(config, vocabulary_size=tokenizer.vocabulary_size)
    return PretrainedModel(model, config, tokenizer, model.image_encoder.preprocess).to("cpu", precision="float32")


class Told(Watch):
    """Hands what work tells to a function, which may raise to stop it."""

    def __init__(self, call: Callable[[str, int, int, Sequence[str]], None]) -> None:
        self.call = call

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        self.call(name, done, total, broken)


class QuietWatch(Watch):
    """Shows nothing and remembers notes, and how far each stage of training was when it began."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []

    def work(self, name: str, done: int, total: int, broken: Sequence[str] = ()) -> None:
        if not name.startswith("encoding"):
            self.stages.append(f"{name.replace(' ', '_')} {done}/{total}")

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def tiny_pretrained() -> "PretrainedModel":
    """A fresh `build_tiny_pretrained`."""
    return build_tiny_pretrained()
