"""What the number type does to recalls: 5,000 images and 25,000 captions in float32, as scored, and all in bfloat16.

    uv run python benchmarks/score_precision.py

The weights are those of the recipe flickr/flickr8k_heads_cpu, trained first unless --model names a bundle of it.
`scored` is how `pocketclip evaluate` and the last evaluation of a run compute; `embedded` is how `pocketclip embed` and
the feature cache of training do.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from embedding import trained
from record import arguments, finish

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.evaluate.ranks import retrieval_ranks
from pocketclip.evaluate.tasks.retrieval import point_metrics
from pocketclip.features.encode import embed_source
from pocketclip.hardware import keep_freed_memory


def recalls(model: PretrainedModel, source: str, count: int, *, scored: bool) -> dict[str, float]:
    started = time.perf_counter()
    found = embed_source(model.for_scores() if scored else model, open_source(source), stop=count)
    seconds = time.perf_counter() - started
    metrics = point_metrics(retrieval_ranks(found.images, found.texts, found.text_images))
    percent = {name: round(100 * value, 2) for name, value in metrics.items() if "recall" in name}
    return {"seconds": round(seconds, 1), **percent}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--source", default="webdataset:flickr8k/flickr8k-train-{000000..000002}.tar")
    parser.add_argument("--model", help="a bundle of the recipe; trained anew by default")
    parser.add_argument("--images", type=int, default=5000)
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        place = options.model or trained(Path(folder))
        model = PretrainedModel.from_pretrained(place)
    sides = {"float32": ("float32", False), "scored": ("auto", True), "embedded": ("auto", False)}
    values: dict[str, Any] = {
        name: recalls(model.to("cpu", precision=precision), options.source, options.images, scored=scored)
        for name, (precision, scored) in sides.items()
    }
    for name in ("scored", "embedded"):
        values[f"largest_difference_of_{name}_in_points"] = round(
            max(abs(values[name][key] - value) for key, value in values["float32"].items() if key != "seconds"), 2
        )
    finish(__file__, {"images": options.images, "source": options.source, **values}, write=options.write)


if __name__ == "__main__":
    main()
