"""How a model of OpenMoji's drawings fares on the same emoji in the styles of Noto, Twemoji and Fluent.

    npm pack @iconify-json/noto @iconify-json/twemoji @iconify-json/fluent-emoji-flat   # and unpack each into its name
    uv run python benchmarks/robustness_emoji.py runs/quickstart --packages packages --write

Zero-shot over the emoji that all four sets have, each name a class and nothing around it: of the split that the model
was not trained on, and of that whose OpenMoji drawings it was trained on. The gap to OpenMoji is over the same names.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from record import arguments, finish

from pocketclip.asked import open_model
from pocketclip.data import open_source
from pocketclip.data.source import Source
from pocketclip.embedder import Embedder
from pocketclip.evaluate.classification import TOP, Ids, classify
from pocketclip.evaluate.prompts import class_embeddings
from pocketclip.evaluate.statistics import bootstrap_ratio
from pocketclip.features.encode import embed_source

STYLES = {"noto": "noto", "twemoji": "twemoji", "fluent": "fluent-emoji-flat"}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("model", help="trained on openmoji:train, such as runs/quickstart")
    parser.add_argument("--packages", type=Path, required=True, help="holds noto, twemoji and fluent-emoji-flat")
    options = parser.parse_args()
    model = open_model(options.model).for_scores()
    places = {style: str(options.packages / folder) for style, folder in STYLES.items()}
    shared = f"shared_with=openmoji+{'+'.join(places.values())}"
    splits, credits = {}, []
    for split in ("test", "train"):
        sources = {style: open_source(f"iconify:{place},{split},{shared}") for style, place in places.items()}
        credits = [source.credit for source in sources.values()]
        splits[split] = measure(model, {"openmoji": open_source(f"openmoji:{split}"), **sources})
    values = {
        "command": f"uv run python benchmarks/robustness_emoji.py {options.model} --packages packages --write",
        "what": f"zero-shot accuracy of {Path(options.model).name} among emoji that four sets have, by style",
        "credits": credits,
        **splits,
    }
    finish(sys.argv[0], values, write=options.write)


def measure(model: Embedder, sources: dict[str, Source]) -> dict[str, Any]:
    """Top-1 and top-5 of each style, and the gap of each to the first one, with intervals over names."""
    first, *others = sources
    names = sources[others[0]].class_names
    assert names is not None
    classes = class_embeddings(model, names, ["{}"])
    ranks = {style: ranks_of(model, source, names, classes) for style, source in sources.items()}
    ones, values = np.ones(len(names)), {}
    for style, own in ranks.items():
        hits = {name: (own < k).astype(np.float64) for name, k in TOP.items()}
        scores = {name: bootstrap_ratio(hit, ones).model_dump() for name, hit in hits.items()}
        gap = hits["top1_accuracy"] - (ranks[first] < 1)
        values[style] = scores | ({} if style == first else {"gap": bootstrap_ratio(gap, ones).model_dump()})
    return {"num_classes": len(names), "chance": round(1 / len(names), 5), **values}


def ranks_of(model: Embedder, source: Source, names: tuple[str, ...], classes: np.ndarray) -> Ids:
    """(C,) where the right name of each emoji stands, in the order of the names."""
    embeddings = embed_source(model, source, with_texts=False)
    place = {source.captions(int(index))[0]: row for row, index in enumerate(embeddings.indices)}
    rows = [place[name] for name in names]
    return classify(embeddings.images[rows], classes, np.arange(len(names)), names).ranks


if __name__ == "__main__":
    main()
