"""What holds hubs down: pictures that are near to every sentence, and sentences that are near to every picture.

From the cosine of a picture and a sentence a number of what is ranked is taken: how near it is to a bank of the other
side, captions for a picture and pictures for a sentence. That needs nothing of the query, so an index keeps it.

    hubs.safetensors    the bank in a bundle: embeddings in half precision, and in its header what they are of

References: inverted softmax (Smith et al., https://arxiv.org/abs/1702.03859), CSLS (Conneau et al.,
https://arxiv.org/abs/1710.04087), querybank normalisation (Bogolin et al., https://arxiv.org/abs/2112.12777).
"""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, TypeAdapter, ValidationError

from pocketclip.config import Config, explain
from pocketclip.errors import UserError, first_line

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Ids = npt.NDArray[np.int64]
FILE = "hubs.safetensors"
MAX_ROWS = 1 << 17
"""Embeddings of a side; ten thousand do what more would."""
MAX_BYTES = 1 << 30
_BLOCK_ELEMENTS = 1 << 22  # cosines held at a time: 16 MiB
_SLACK = 0.01
"""By which rows in half precision may miss unit length; rounding is a tenth of it."""
Count = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class HubSettings(Config):
    """What every kind of correction has."""

    num_captions: Count = 10_000
    """At most so many of the training data, for pictures: from each sample one, then a second, and so on."""
    num_images: Count = 2_000
    """At most so many of the training data, for sentences."""

    @abstractmethod
    def nearness(self, cosines: Floats) -> Floats:
        """(B,) what is taken from scores of each of B things, from its (B, M) cosines with a bank of M."""

    @property
    @abstractmethod
    def told(self) -> str:
        """In words."""


class LogSumExp(HubSettings):
    """The soft maximum over the bank, as querybank normalisation and the inverted softmax have it.

    `log(mean(exp(scale * cosine))) / scale`. Taking the mean and not the sum shifts all scores by one number, which
    changes no rank, and makes what is taken a cosine: that with a bank of one.
    """

    kind: Literal["log_sum_exp"] = "log_sum_exp"
    scale: PositiveFloat = 10.0
    """Large: what counts is the nearest of the bank; small: the mean of the bank. With 20 the gain is about as
    large where there are thousands of pictures, and next to nothing where there are hundreds (docs/ladder.md)."""

    def nearness(self, cosines: Floats) -> Floats:
        highest = cosines.max(axis=1, keepdims=True)
        means = np.exp(self.scale * (cosines - highest)).mean(axis=1, dtype=np.float64)
        taken: Floats = (highest[:, 0] + np.log(means) / self.scale).astype(np.float32)
        return taken

    @property
    def told(self) -> str:
        return f"log-sum-exp, scale {self.scale:g}"


class Csls(HubSettings):
    """Half the mean cosine of the nearest in the bank: CSLS, 2 cosine - mean, halved."""

    kind: Literal["csls"]
    num_nearest: PositiveInt = 10

    def nearness(self, cosines: Floats) -> Floats:
        count = min(self.num_nearest, cosines.shape[1])
        nearest = np.partition(cosines, -count, axis=1)[:, -count:]
        taken: Floats = (nearest.mean(axis=1, dtype=np.float64) / 2).astype(np.float32)
        return taken

    @property
    def told(self) -> str:
        return f"CSLS, {self.num_nearest} nearest"


def _kind_of(values: Any) -> str:
    kind = values.get("kind", "log_sum_exp") if isinstance(values, Mapping) else getattr(values, "kind", "log_sum_exp")
    return str(kind)


HubsConfig = Annotated[Annotated[LogSumExp, Tag("log_sum_exp")] | Annotated[Csls, Tag("csls")], Discriminator(_kind_of)]


def settings_of(values: Mapping[str, Any], *, place: str) -> LogSumExp | Csls:
    """Settings from plain values; a UserError names `place` and the key."""
    try:
        settings: LogSumExp | Csls = TypeAdapter(HubsConfig).validate_python(values)
    except ValidationError as error:
        raise UserError(explain(error, place, HubsConfig)) from None
    return settings


class _Header(Config):
    """What the file says of itself."""

    format_version: Literal[1] = 1
    settings: HubsConfig
    source: str
    source_fingerprint: str
    seed: int


@dataclass(frozen=True, eq=False)
class Hubs:
    """A bank of training data in a model's space.

    >>> scores = images @ texts.T - model.hubs.of_images(images)[:, None]  # which image, for a sentence
    >>> scores = images @ texts.T - model.hubs.of_texts(texts)  # which sentence, for an image
    """

    settings: LogSumExp | Csls
    captions: Halves
    """(M, D), unit length but for rounding."""
    images: Halves
    """(K, D), as `captions`."""
    pictures: Ids
    """The `picture_id`s of all that the bank was drawn from, captions too; ascending."""
    source: str
    source_fingerprint: str = ""
    seed: int = 0

    def of_images(self, images: Floats) -> Floats:
        """(N,) what is taken from each picture's cosine with any sentence, from their (N, D) of unit length."""
        return self._of(images, self.captions)

    def of_texts(self, texts: Floats) -> Floats:
        """(Q,) what is taken from each sentence's cosine with any picture, from their (Q, D) of unit length."""
        return self._of(texts, self.images)

    def _of(self, things: Floats, bank: Halves) -> Floats:
        other, rows = bank.astype(np.float32).T, max(1, _BLOCK_ELEMENTS // len(bank))
        parts = [self.settings.nearness(things[start : start + rows] @ other) for start in range(0, len(things), rows)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that change with anything that corrections hang on."""
        content = hashlib.sha256(self.settings.model_dump_json(exclude={"num_captions", "num_images"}).encode())
        for rows in (self.captions, self.images):
            content.update(np.ascontiguousarray(rows).tobytes())
        return content.hexdigest()[:16]

    @property
    def told(self) -> str:
        """In words, such as `log-sum-exp, scale 10, over 10,000 captions and 2,000 pictures of folder:photos`."""
        counts = f"{len(self.captions):,} captions and {len(self.images):,} pictures"
        return f"{self.settings.told}, over {counts} of {self.source}"

    def to_bytes(self) -> bytes:
        """The content of `hubs.safetensors`."""
        from safetensors.numpy import save

        header = _Header(
            settings=self.settings, source=self.source, source_fingerprint=self.source_fingerprint, seed=self.seed
        )
        arrays = {"captions": self.captions, "images": self.images, "pictures": self.pictures}
        content: bytes = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            metadata={"hubs": header.model_dump_json()},
        )
        return content

    @classmethod
    def load(cls, folder: Path, embed_dim: int) -> "Hubs | None":
        """The bank of a bundle's folder; None where there is none.

        Raises:
            UserError: the file is damaged, not one of ours, or of another model.
        """
        file = folder / FILE
        if not file.is_file():
            return None
        try:
            return _read(file, embed_dim)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = first_line(error)
        except Exception as error:
            if type(error).__name__ != "SafetensorError":  # no subclass of those above
                raise
            reason = first_line(error)
        raise UserError(
            f"{file}: no bank of this model's embeddings ({reason}); delete it, and scores are not corrected, or make "
            f"it again: pocketclip hubs {folder} --data SOURCE"
        )


def _read(file: Path, embed_dim: int) -> Hubs:
    from safetensors import safe_open

    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    with safe_open(file, framework="numpy") as opened:
        if sorted(opened.keys()) != ["captions", "images", "pictures"]:
            raise ValueError(f"holds {', '.join(sorted(opened.keys())[:5]) or 'nothing'}")
        text = (opened.metadata() or {}).get("hubs", "")
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"its header: {first_line(error)}") from error
    for name in ("captions", "images"):
        _check(name, arrays[name], embed_dim)
    pictures = arrays["pictures"]
    if pictures.dtype != np.int64 or pictures.ndim != 1:
        raise ValueError("pictures: other numbers than expected")
    return Hubs(header.settings, arrays["captions"], arrays["images"], pictures, header.source,
                header.source_fingerprint, header.seed)  # fmt: skip


def _check(name: str, rows: npt.NDArray[Any], embed_dim: int) -> None:
    if rows.dtype != np.float16 or rows.ndim != 2 or not 1 <= len(rows) <= MAX_ROWS:
        raise ValueError(f"{name}: should be up to {MAX_ROWS:,} rows of float16, is {rows.dtype} {rows.shape}")
    if rows.shape[1] != embed_dim:
        raise ValueError(f"{name}: of {rows.shape[1]} numbers each, and the model's are of {embed_dim}")
    lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
    if not (np.abs(lengths - 1) < _SLACK).all():  # not of NaN either
        raise ValueError(f"{name}: not finite, or not of unit length")
