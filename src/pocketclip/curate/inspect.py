"""What is in a source: counts, sizes, broken and repeated items."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pocketclip.curate.curation import measure_each
from pocketclip.data.identity import content_fingerprint
from pocketclip.data.keys import caption_id
from pocketclip.data.left_out import LeftOut
from pocketclip.data.source import Source
from pocketclip.preprocess import decode_image
from pocketclip.stages.watch import SILENT, Watch


@dataclass
class Inspection:
    """What reading a whole source showed."""

    name: str
    num_items: int
    num_images: int = 0
    num_captions: int = 0
    captions_per_image: Counter[int] = field(default_factory=Counter)
    words_per_caption: Counter[int] = field(default_factory=Counter)
    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    bytes: int = 0
    broken: list[str] = field(default_factory=list)
    without_caption: list[str] = field(default_factory=list)
    same_image: list[tuple[str, str]] = field(default_factory=list)
    """Pairs of keys whose files are equal byte for byte."""
    num_repeated_captions: int = 0
    """Captions whose text another image has too, but for case and closing punctuation."""
    highest_recall: float = 1.0
    """R@1 from text to image that can be reached at most: a caption of three different pictures finds its own one
    time in three."""
    num_labelled: int = 0
    images_of: Counter[str] = field(default_factory=Counter)
    """Images of each identity."""
    num_wide: int = 0
    """Images of an identity that are wider than high."""
    left_out: Sequence[LeftOut] = ()
    content: str = ""
    """Equal for sources of the same pictures, captions, classes and identities, however stored."""

    @property
    def unusable(self) -> list[str]:
        """What training leaves out: broken items, and pictures without a caption unless none has one."""
        without = [f"{place}: has no caption." for place in self.without_caption] if self.num_captions else []
        return [*self.broken, *without]

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "source": self.name,
            "num_items": self.num_items,
            "num_images": self.num_images,
            "num_captions": self.num_captions,
            "num_labelled": self.num_labelled,
            "num_identities": len(self.images_of),
            "images_per_identity": _spread(list(self.images_of.values())),
            "num_wider_than_high": self.num_wide,
            "captions_per_image": {str(count): times for count, times in sorted(self.captions_per_image.items())},
            "words_per_caption": _spread(list(self.words_per_caption.elements())),
            "width": _spread(self.widths),
            "height": _spread(self.heights),
            "mebibytes": round(self.bytes / 2**20, 2),
            "num_broken": len(self.broken),
            "broken": self.broken[:20],
            "num_without_caption": len(self.without_caption),
            "num_distinct_images": self.num_images - len(self.same_image),
            "num_same_images": len(self.same_image),
            "same_images": self.same_image[:20],
            "num_repeated_captions": self.num_repeated_captions,
            "highest_text_to_image_recall@1": self.highest_recall,
            "content": self.content,
            "left_out": [asdict(left) for left in self.left_out],
        }


def _spread(values: list[int]) -> dict[str, float]:
    percentiles = np.percentile(values, [0, 50, 100]).tolist() if values else []
    return dict(zip(("min", "median", "max"), percentiles, strict=False))


def inspect_source(source: Source, watch: Watch = SILENT) -> Inspection:
    """Read and decode every item."""
    result = Inspection(source.name, len(source), left_out=source.left_out)
    first_with: dict[bytes, str] = {}
    images_with: dict[int, list[bytes]] = {}

    def watched() -> Iterator[int]:
        for index in range(len(source)):
            yield index
            watch.work("reading images", index + 1, len(source))

    for _, sample, image in measure_each(source, watched(), decode_image, result.broken):
        result.num_images += 1
        result.num_captions += len(sample.captions)
        result.num_labelled += sample.label is not None
        if sample.identity is not None:
            result.images_of[sample.identity] += 1
            result.num_wide += image.width > image.height
        result.captions_per_image[len(sample.captions)] += 1
        result.widths.append(image.width)
        result.heights.append(image.height)
        result.bytes += len(sample.image)
        if not sample.captions:
            result.without_caption.append(sample.place)
        content = hashlib.blake2b(sample.image, digest_size=16).digest()
        if content in first_with:
            result.same_image.append((first_with[content], sample.key))
        first_with.setdefault(content, sample.key)
        for caption in sample.captions:
            result.words_per_caption[len(caption.split())] += 1
            images_with.setdefault(caption_id(caption), []).append(content)
    shared = {caption: len(set(images)) for caption, images in images_with.items()}
    result.num_repeated_captions = sum(len(images_with[caption]) for caption, count in shared.items() if count > 1)
    if result.num_captions:
        reached = sum(len(images_with[caption]) / count for caption, count in shared.items())
        result.highest_recall = round(reached / result.num_captions, 4)
    result.content = content_fingerprint(source)
    return result
