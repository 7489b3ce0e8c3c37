"""What a filter of a source says beside the shards: names of what stays, scores of all, and how signals are spread."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pocketclip.curate.filter import FilterConfig, Verdict
from pocketclip.curate.histogram import Histogram
from pocketclip.curate.selection import Mask
from pocketclip.curate.signals import Signals
from pocketclip.data.ids import UID_NAME, is_uid
from pocketclip.data.source import Source
from pocketclip.errors import UserError, require
from pocketclip.files import new_file


def chosen_names(source: Source, verdict: Verdict, *, as_uids: bool) -> list[str]:
    """The key of each sample that stays; `as_uids` DataComp's uid, where the metadata have one."""
    names = []
    for index in verdict.selection.indices.tolist():
        key = source.key(index)
        names.append(str(source.metadata(index).get(UID_NAME, key)) if as_uids and not is_uid(key) else key)
    return names


def signal_histograms(signals: Signals, verdict: Verdict, rules: FilterConfig) -> Iterator[Histogram]:
    """Of each number that a rule compares, of all images or captions and of those that stay."""
    images, captions = kept_masks(signals, verdict)
    sides, kept_similar = signals.sides, signals.similarities[captions] if len(signals.similarities) else ()
    least = rules.min_similarity if rules.keep_share is None else min(kept_similar, default=None)
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = sides.max(axis=1) / sides.min(axis=1)
    given = (
        ("image side", "images", sides.min(axis=1), images, rules.min_image_side, None),
        ("aspect ratio", "images", aspect, images, None, rules.max_aspect_ratio),
        ("caption words", "captions", signals.words, captions, rules.min_caption_words, rules.max_caption_words),
        ("caption letters", "captions", signals.letters, captions, rules.min_caption_letters, None),
        ("similarity", "captions", signals.similarities, captions, least, None),
    )
    for name, things, values, kept, least, most in given:
        if least is not None or most is not None:
            yield Histogram.of(name, things, values, kept, least, most)


def kept_masks(signals: Signals, verdict: Verdict) -> tuple[Mask, Mask]:
    """(N,) and (Q,): which of the images that were read, and of their captions, stay."""
    images = np.isin(signals.indices, verdict.selection.indices)
    captions = np.zeros(len(signals.words), np.bool_)
    captions[images[signals.owners]] = verdict.selection.captions
    return images, captions


def check_scores(file: Path) -> None:
    """A UserError where a file's ending is not that of what `write_scores` writes, or pyarrow is not installed."""
    if file.suffix != ".parquet":
        raise UserError(f"{file}: --scores writes a table that ends in .parquet.")
    require("pyarrow", extra="parquet")


def write_scores(file: Path, source: Source, signals: Signals) -> None:
    """Write what was measured of each image, dropped or not, with its key, as `data.subset.scores` reads it.

    Of the captions it is the mean; `similarity` is there where a model compared them.
    """
    check_scores(file)
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(signals.owners, values, minlength=len(signals.indices))
        with np.errstate(invalid="ignore"):
            return sums / signals.counts

    columns = {
        "key": [source.key(index) for index in signals.indices.tolist()],
        "image_side": signals.sides.min(axis=1),
        "aspect_ratio": signals.sides.max(axis=1) / signals.sides.min(axis=1),
        "caption_words": mean(signals.words),
        "caption_letters": mean(signals.letters),
        "english": mean(signals.english),
    }
    if len(signals.similarities):
        columns["similarity"] = mean(signals.similarities)
    with new_file(file, elsewhere="--scores") as opened:
        parquet.write_table(arrow.table(columns), opened)
