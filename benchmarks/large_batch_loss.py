"""Contrastive losses tile by tile against the matrix of all pairs: time where both fit, memory at a large batch.

    uv run python benchmarks/large_batch_loss.py

Forward and backward over ready features of width 512 in float32; affinity distillation has two teachers of width 768,
as MobileCLIP's. Memory is the peak of the process over what it held before the loss, inputs and their gradients
included in "before". Every measurement has a process of its own.
"""

import json
import resource
import statistics
import sys
import time

from record import arguments, finish, in_a_process

WIDTH, BOTH, LARGE, ROUNDS = 512, 8192, 65536, 3
TEACHER_WIDTH, TEACHER_SCALES = 768, (70.0, 60.0)


def measure(loss: str, side: str, batch: int) -> dict[str, float]:
    import torch
    from torch.nn import functional as F

    from pocketclip.hardware import keep_freed_memory
    from pocketclip.losses.affinity import affinity_loss
    from pocketclip.losses.clip import clip_loss
    from pocketclip.losses.config import ClipLossConfig, SigmoidLossConfig
    from pocketclip.losses.contrastive import ContrastiveInputs
    from pocketclip.losses.large import large_affinity_loss
    from pocketclip.losses.sigmoid import sigmoid_loss

    keep_freed_memory()
    torch.manual_seed(0)
    image = F.normalize(torch.randn(batch, WIDTH), dim=1).requires_grad_()
    text = F.normalize(torch.randn(batch, WIDTH), dim=1).requires_grad_()
    image.grad, text.grad = torch.zeros_like(image), torch.zeros_like(text)
    scale, bias = torch.tensor(14.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    teachers = [
        [F.normalize(torch.randn(batch, TEACHER_WIDTH), dim=1) for _ in TEACHER_SCALES if loss == "affinity"]
        for _ in ("images", "texts")
    ]
    ids = torch.arange(batch)
    inputs = ContrastiveInputs(image, text, scale, bias, ids, ids)

    def step() -> float:
        started = time.perf_counter()
        if loss == "clip":
            value = clip_loss(image, text, scale) if side == "plain" else ClipLossConfig().large(inputs)
        elif loss == "affinity":
            taught = *teachers, TEACHER_SCALES
            plain = side == "plain"
            value = affinity_loss(image, text, scale, *taught) if plain else large_affinity_loss(inputs, *taught)
        else:
            value = sigmoid_loss(image, text, scale, bias) if side == "plain" else SigmoidLossConfig().large(inputs)
        value.backward()
        return time.perf_counter() - started

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = [step() for _ in range(1 if batch == LARGE else 4)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": min(seconds[1:] or seconds), "mib": peak / 1024}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--measure", nargs=3, metavar=("LOSS", "SIDE", "BATCH"))
    options = parser.parse_args()
    if options.measure:
        loss, side, batch = options.measure
        print(json.dumps(measure(loss, side, int(batch))))
        return
    values: dict[str, object] = {"width": WIDTH, "batch": BOTH, "large_batch": LARGE, "rounds": options.rounds}
    for loss in ("clip", "sigmoid", "affinity"):
        found: dict[str, list[dict[str, float]]] = {"plain": [], "tiled": []}
        for _ in range(options.rounds):
            for side, results in found.items():
                results.append(in_a_process(sys.argv[0], "--measure", loss, side, BOTH))
        middle = {side: statistics.median(one["seconds"] for one in results) for side, results in found.items()}
        large = in_a_process(sys.argv[0], "--measure", loss, "tiled", LARGE)
        values[loss] = {
            **{f"{side}_seconds": round(seconds, 3) for side, seconds in middle.items()},
            "speed_ratio_tiled_to_plain": round(middle["plain"] / middle["tiled"], 2),
            "plain_mib": round(found["plain"][0]["mib"]),
            "tiled_mib": round(found["tiled"][0]["mib"]),
            "tiled_large_mib": round(large["mib"]),
            "tiled_large_seconds": round(large["seconds"], 1),
            "plain_large_mib_would_be": round(2 * LARGE**2 * 4 / 2**20),
        }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
