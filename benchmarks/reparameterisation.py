"""MobileCLIP-S0 as it trains and as it is fused for inference, on this CPU.

    uv run python benchmarks/reparameterisation.py

Both forms have the same random weights and give the same embeddings. Images of 256 px and texts of 77 tokens (its text
tower counts padding as tokens, so every text has 77), one at a time and 16 at a time, in float32 and without any
compilation. Sides take turns in one process; medians count.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from record import arguments, finish
from torch.nn import functional as F

from pocketclip.cost.parameters import count_parameters
from pocketclip.hardware import keep_freed_memory
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.reparam import reparameterize

SIZE, TOKENS, BATCH = "mobileclip_s0", 77, 16
WARM_UPS = 3


def in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(WARM_UPS + rounds):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            if number >= WARM_UPS:
                seconds[name].append(time.perf_counter() - started)
    return {name: round(1000 * statistics.median(found), 2) for name, found in seconds.items()}


def measure(forms: dict[str, DualEncoder], rounds: int) -> dict[str, object]:
    pixels = DualEncoderConfig.parse(SIZE, place=SIZE).image_encoder.image_size
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, pixels, pixels), dtype=torch.uint8, generator=random)
    images = images.to(memory_format=torch.channels_last)
    tokens = torch.randint(1, 49_000, (BATCH, TOKENS), generator=random)
    values: dict[str, object] = {}
    for count, repeats in ((1, 10 * rounds), (BATCH, rounds)):
        inputs = {"image": (images[:count],), "text": (tokens[:count], torch.ones(count, TOKENS, dtype=torch.bool))}
        for part, given in inputs.items():
            sides = {name: partial(getattr(model, f"encode_{part}"), *given) for name, model in forms.items()}
            found = in_turns(sides, repeats)
            values[f"{part}_batch_{count}"] = {
                **{f"{name}_ms": value for name, value in found.items()},
                "ratio": round(found["train_form"] / found["fused"], 2),
            }
    rows = [F.normalize(model.encode_image(images[:2]), dim=1) for model in forms.values()]
    values["largest_change_of_an_embedding"] = float((rows[0] - rows[1]).abs().max())
    return values


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    model = build_model(DualEncoderConfig.parse(SIZE, place=SIZE), load_pretrained=False).eval()
    forms = {"train_form": model, "fused": reparameterize(model)}
    with torch.inference_mode():
        found = measure(forms, options.rounds)
    parts = {"image": "image_encoder", "text": "text_encoder"}
    values = {
        "what": f"{SIZE}, milliseconds a batch, float32, median; images of 256 px, texts of {TOKENS} tokens",
        **found,
        "parameters": {
            name: {part: count_parameters(getattr(form, tower)) for part, tower in parts.items()}
            for name, form in forms.items()
        },
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
