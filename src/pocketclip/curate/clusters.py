"""DataComp's image-based filter: images whose nearest centroid is also the nearest of a target set's image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from pocketclip.errors import UserError, unreadable

EMBEDDING = "l14_img"
"""What DataComp calls the images' embeddings in the .npz beside each Parquet file."""
_CHUNK = 4096
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clusters:
    """Centroids, and which of them a target set's image is nearest to."""

    centroids: Vectors
    """(K, D)."""
    wanted: npt.NDArray[np.bool_]
    """(K,)."""

    @classmethod
    def read(cls, centroids: Path, target: Path) -> Self:
        """From two .npy files: (K, D) centroids of the pool and (M, D) embeddings of the target, ImageNet's say."""
        centres, targets = _vectors(centroids), _vectors(target)
        if centres.shape[1] != targets.shape[1]:
            raise UserError(f"{target}: has {targets.shape[1]} numbers a row, and {centroids} {centres.shape[1]}.")
        wanted = np.zeros(len(centres), np.bool_)
        wanted[nearest(targets, centres)] = True
        return cls(centres, wanted)

    def near(self, embeddings: Vectors) -> npt.NDArray[np.bool_]:
        """(N,) whether each is in a wanted cluster."""
        return self.wanted[nearest(embeddings, self.centroids)]

    def embeddings_beside(self, file: Path, num_rows: int) -> Vectors:
        """(N, D) those of the rows of a Parquet file, from the .npz of the same name."""
        path = file.with_suffix(".npz")
        why = f"; image_based takes each row's image from the array {EMBEDDING} there, as DataComp's metadata have them"
        with unreadable(f"{path}: cannot be read", why), np.load(path, allow_pickle=False) as arrays:
            found = np.asarray(arrays[EMBEDDING])
        if found.shape != (num_rows, self.centroids.shape[1]):
            raise UserError(
                f"{path}: {EMBEDDING} is {found.shape}, and should be {(num_rows, self.centroids.shape[1])}."
            )
        return found


def nearest(embeddings: Vectors, centroids: Vectors) -> npt.NDArray[np.int64]:
    """(N,) the centroid with the largest inner product."""
    parts = [
        (embeddings[start : start + _CHUNK].astype(np.float32) @ centroids.T).argmax(axis=1)
        for start in range(0, len(embeddings), _CHUNK)
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _vectors(file: Path) -> Vectors:
    with unreadable(f"{file}: cannot be read as .npy"):
        array = np.lib.format.open_memmap(file, mode="r")
    if array.ndim != 2 or array.dtype.kind != "f" or not len(array):
        raise UserError(f"{file}: should hold rows of numbers with a fraction (got {array.dtype} {array.shape}).")
    return np.asarray(array, np.float32)
