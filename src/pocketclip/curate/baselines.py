"""DataComp's named baselines (arXiv 2304.14108) as filters of rows.

Names and numbers are those of its `baselines.py`. What differs is said here: English is told without fastText and
gcld3 (see `data/language.py`), words without WordNet (see `entities`), unless the table has a column `language`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pocketclip.curate.clusters import Clusters
from pocketclip.curate.entities import Entities
from pocketclip.curate.rows import RowFilter
from pocketclip.errors import UserError, unknown_choice

BASIC = {
    "min_image_side": 200,
    "max_aspect_ratio": 3.0,
    "min_caption_words": 3,
    "min_caption_letters": 6,
    "language": "en",
}
CAPTIONED = {"min_caption_words": 2, "min_caption_letters": 6, "language": "en"}
"""What `image_based` asks of a caption."""
LAION = {"min_similarity": 0.28, "language": "en"}
SCORES = {"l14": "clip_l14_similarity_score", "b32": "clip_b32_similarity_score"}
"""DataComp's columns by model."""
_CLIP_SCORE = re.compile(r"(image_based_intersect_)?clip_score_(l14|b32)_([1-9]\d?)_percent")
NAMES = (
    "no_filter",
    "basic_filter",
    "text_based",
    "image_based",
    "clip_score_l14_30_percent",
    "clip_score_b32_30_percent",
    "image_based_intersect_clip_score_l14_30_percent",
    "laion2b",
)
SHORT = {"basic": "basic_filter", "clip_score": "clip_score_l14_30_percent", "laion": "laion2b"}


@dataclass(frozen=True)
class BaselineFiles:
    """What some of them need beside the table."""

    words: Path | None = None
    """Names of things, for `text_based`."""
    centroids: Path | None = None
    target: Path | None = None
    """Embeddings, for `image_based`."""


def full_name(name: str) -> str:
    """DataComp's own name of what may be called in short."""
    return SHORT.get(name, name)


def baseline(name: str, files: BaselineFiles) -> list[RowFilter]:
    """The filters that all have to pass; any percentage from 1 to 99 may stand in a name.

    Raises:
        UserError: an unknown name, or a file that it needs was not given, or one that it does not need was.
    """
    name = full_name(name)
    scored = _CLIP_SCORE.fullmatch(name)
    if name not in NAMES and scored is None:
        raise unknown_choice("baseline", name, [*NAMES, *SHORT])
    by_image = name.startswith("image_based")
    _check_files(name, files, words=name == "text_based", embeddings=by_image)
    filters = []
    if scored is not None:
        filters.append(RowFilter({"keep_share": int(scored[3]) / 100}, SCORES[scored[2]]))
    if by_image:
        assert files.centroids is not None
        assert files.target is not None
        filters.append(RowFilter(CAPTIONED, clusters=Clusters.read(files.centroids, files.target)))
    if name == "text_based":
        assert files.words is not None
        filters.append(RowFilter({"language": "en"}, entities=Entities.read(files.words)))
    plain: dict[str, Callable[[], RowFilter]] = {
        "no_filter": RowFilter,
        "basic_filter": lambda: RowFilter(BASIC),
        "laion2b": lambda: RowFilter(LAION, SCORES["b32"]),
    }
    return [*filters, plain[name]()] if name in plain else filters


def refuse_files(files: BaselineFiles) -> None:
    """A UserError where a file was given, and no baseline that reads it."""
    if given := [name for name, value in vars(files).items() if value is not None]:
        raise UserError(f"--{given[0]} has no effect without --baseline.")


def _check_files(name: str, files: BaselineFiles, *, words: bool, embeddings: bool) -> None:
    needed = {"words": words, "centroids": embeddings, "target": embeddings}
    what = {
        "words": "names of things, one a line, such as ImageNet-21k's",
        "centroids": "the pool's centroids, (K, D) in .npy",
        "target": "embeddings of ImageNet's images, (M, D) in .npy",
    }
    for option, is_needed in needed.items():
        given = getattr(files, option) is not None
        if is_needed and not given:
            raise UserError(f"--baseline {name} needs --{option} FILE: {what[option]}.")
        if given and not is_needed:
            raise UserError(f"--{option} has no effect with --baseline {name}.")
