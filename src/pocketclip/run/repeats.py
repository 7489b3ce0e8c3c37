"""Says before a training that captions which several pictures share leave little to reach."""

import numpy as np

from pocketclip import distributed
from pocketclip.data.identity import first_equal, picture_ids
from pocketclip.data.keys import caption_id
from pocketclip.data.source import readable_captions
from pocketclip.evaluate.gallery import shared_captions
from pocketclip.run.state import Run

MAX_CAPTIONS = 1_000_000
"""More are not compared with each other."""
WORTH_SAYING = 0.9
"""Of the R@1 that is left to reach; above it, other things decide."""


def note_shared_captions(run: Run) -> None:
    """Tell and note how many captions of the training data are those of several pictures, if that says much."""
    source = run.train_source
    if not distributed.is_main() or source.images_per_example > 1 or len(source) > MAX_CAPTIONS:
        return
    pictures = first_equal(picture_ids(source, run.watch))
    owners: list[int] = []
    ids: list[int] = []
    for picture, captions in zip(pictures.tolist(), readable_captions(source), strict=True):
        ids += map(caption_id, captions)
        owners += [picture] * len(captions)
        if len(ids) > MAX_CAPTIONS:
            return
    num_shared, best = shared_captions(np.array(ids, np.int64), np.array(owners, np.int64)) if ids else (0, 1.0)
    if best >= WORTH_SAYING:
        return
    note = (
        f"data.train: {num_shared:,} of {len(ids):,} captions are those of several pictures ({len(set(ids)):,} "
        f"different ones): among all of these pictures, text to image R@1 can reach {100 * best:.1f} % at most. Where "
        "captions are names of classes, sort the pictures into a folder a class and measure those: "
        "pocketclip evaluate MODEL --task linear_probe --data folder:PHOTOS,classes=folders"
    )
    run.told.add("captions")
    run.watch.note(note)
    run.notes["train"].append(note)
