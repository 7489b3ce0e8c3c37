"""Prints the README's table of models from the files that `benchmarks/recipe.py` writes.

python benchmarks/model_table.py results/recipe_*.json
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketclip.hardware import is_busy
from pocketclip.records import Interval


def model_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The README's table from the files that `benchmarks/recipe.py` writes, in Markdown.

    The best first, and only recipes as they are shipped; scores with intervals are of the first seed.
    """
    results = [result for result in results if not result["changes"] and "study" not in result["recipe"]]
    results = sorted(results, key=lambda result: -result["runs"][0]["text_to_image_recall@1"]["value"])
    lines = [
        "| recipe | text → image R@1 | image → text R@1 | parameters image + text | latency | trained in |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        run, cost = result["runs"][0], result["cost"]
        scores = [
            Interval.parse(run[f"{way}_recall@1"], place=result["recipe"]).percent()
            for way in ("text_to_image", "image_to_text")
        ]
        seconds = result["wall_seconds_median"]
        trained = f"{seconds / 60:.0f} min" if seconds >= 300 else f"{seconds:.0f} s"
        if (again := result["wall_seconds_cache_filled_median"]) is not None:
            trained += f", again {again:.0f} s"
        parts = [
            f"`{result['recipe']}`",
            *scores,
            f"{cost['parameters_image'] / 1e6:.1f} + {cost['parameters_text'] / 1e6:.1f} M",
            f"{cost['latency_ms_p50_image']:.1f} + {cost['latency_ms_p50_text']:.1f} ms"
            + _beside(cost.get("provenance", {})),
            trained + _beside(result),
        ]
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


def _beside(measured: Mapping[str, Any]) -> str:
    """A word where other work was in the way of a time; older records do not know."""
    busy = is_busy(measured.get("other_load"), measured.get("num_cores"))
    return " (on a busy machine)" if busy else ""


if __name__ == "__main__":
    print(model_table([json.loads(Path(name).read_text()) for name in sys.argv[1:]]))
