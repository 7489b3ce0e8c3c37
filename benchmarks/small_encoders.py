"""What each small image tower costs on this CPU, and what it scores where a pip package carries its weights.

    uv run python benchmarks/small_encoders.py --write
    uv run python benchmarks/small_encoders.py --towers "ViT-Ti/16" MCi0 --seconds 0.2
    uv run python benchmarks/small_encoders.py --data webdataset:clothing-small-test-000000.tar \\
        --train-data webdataset:clothing-small-train-000000.tar --picture small_encoders.svg

Each tower is measured in a process of its own, as inference runs it: branches folded, in the CPU's fast number type;
its weights do not matter to what it costs. An epoch is EPOCH_IMAGES images (Flickr8k's training split) in batches of 32
through the tower forward and backward, with AdamW, in float32, from a few timed steps; reading pictures and the text
tower are left out. It is missing where torch ends the process. Energy is that of a batch-32 pass and needs codecarbon.
The score is a linear probe's on the tower's features.
"""

import json
import statistics
import sys
import time
from typing import Any

import torch
from record import arguments, finish, in_a_process
from torch import nn

from pocketclip.cost.energy import measure_energy
from pocketclip.cost.flops import tower_macs
from pocketclip.cost.latency import latency
from pocketclip.cost.memory import peak_mib
from pocketclip.cost.parameters import count_parameters
from pocketclip.errors import UserError
from pocketclip.hardware import keep_freed_memory
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.models.origin.packages import IMAGE_PACKAGES
from pocketclip.models.running.reparam import reparameterize
from pocketclip.models.running.runner import Runner
from pocketclip.models.tower import ImageTower, NoTower

TOWERS = {
    "ResNet-50": ("resnet50", 224),
    "MobileNetV2": ("mobilenetv2_100", 224),
    "MobileNetV3-L": ("mobilenetv3_large_100", 224),
    "MobileNetV4-S": ("mobilenetv4_conv_small", 224),
    "EfficientNet-B0": ("efficientnet_b0", 224),
    "EfficientNet-Lite0": ("tf_efficientnet_lite0", 224),
    "EfficientNet-Lite1": ("tf_efficientnet_lite1", 240),
    "EfficientNet-Lite2": ("tf_efficientnet_lite2", 260),
    "Inception-v3": ("inception_v3", 299),
    "ViT-Ti/16": ("vit_tiny_patch16_224", 224),
    "ViT-S/16": ("vit_small_patch16_224", 224),
    "FastViT-T8": ("fastvit_t8", 256),
    "MCi0": ("fastvit_mci0", 256),
    "MobileViT-S": ("mobilevit_s", 256),
    "ConvNeXt-atto": ("convnext_atto", 224),
    "RepViT-M0.9": ("repvit_m0_9", 224),
    "EfficientViT-B0": ("efficientvit_b0", 224),
}
BATCH, EPOCH_IMAGES, WARM_UPS = 32, 6000, 1


def build(name: str) -> ImageTower:
    """One tower with random weights."""
    timm_name, size = TOWERS[name]
    keep_freed_memory()
    torch.manual_seed(0)
    return TimmImageEncoderConfig(name=timm_name, pretrained="none", image_size=size).build()


def measure(name: str, seconds: float) -> dict[str, Any]:
    """What one tower costs to hold and to run."""
    (timm_name, size), tower = TOWERS[name], build(name)
    model = DualEncoder(tower, NoTower(), nn.Identity(), nn.Identity())
    fused = reparameterize(model)
    values: dict[str, Any] = {
        "tower": timm_name,
        "image_size": size,
        "parameters": count_parameters(tower),
        "parameters_fused": count_parameters(fused.image_encoder),
        **tower_macs(fused, image_size=size, context_length=0),
    }
    runner, found = Runner(model, device=torch.device("cpu"), image_size=size), dict[str, Any]()
    memory = peak_mib(
        lambda: found.update(latency(runner, image_size=size, num_tokens=0, seconds=seconds)), torch.device("cpu")
    )
    batch_ms = round(1000 * BATCH / found["throughput_image_per_second"], 2)
    with measure_energy() as energy:
        pixels = torch.zeros(BATCH, size, size, 3, dtype=torch.uint8).numpy()
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            runner.encode_images(pixels)
            count += BATCH
    joules = None if energy.kwh is None else round(3.6e9 * energy.kwh / count, 2)
    return {
        **values,
        "latency_ms_batch_1": found["latency_ms_p50_image"],
        "latency_ms_batch_32": batch_ms,
        **memory,
        "joules_per_1000_images": joules,
        "precision": found["precision"],
        "num_threads": found["num_threads"],
    }


def training_seconds(name: str, steps: int) -> float:
    """Of an epoch, from the median of a few steps."""
    tower, size = build(name).train(), TOWERS[name][1]
    optimizer, times = torch.optim.AdamW(tower.parameters()), []
    images = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    for number in range(WARM_UPS + steps):
        started = time.perf_counter()
        tower(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if number >= WARM_UPS:
            times.append(time.perf_counter() - started)
    return round(statistics.median(times) * EPOCH_IMAGES / BATCH, 1)


def score(name: str, data: str, train_data: str) -> dict[str, Any] | None:
    """A linear probe's accuracy; None where no package carries the weights."""
    timm_name, _ = TOWERS[name]
    if timm_name not in IMAGE_PACKAGES:
        return None
    from pocketclip.asked import open_model
    from pocketclip.data import open_source
    from pocketclip.evaluate.tasks import TaskData
    from pocketclip.evaluate.tasks.linear_probe import LinearProbe

    given = TaskData(open_source(data), train=open_source(train_data))
    model = open_model(f"timm:{timm_name}/package", device="cpu", precision="float32")
    accuracy = LinearProbe().run(model, given).metrics["top1_accuracy_embedding"]
    return accuracy.model_dump() if not isinstance(accuracy, float) else {"value": accuracy}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown, the fastest first."""
    lines = [
        "| tower | px | M params | G MACs | ms, batch 1 | ms, batch 32 | peak MiB | s an epoch | J per 1,000 | top-1 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["latency_ms_batch_1"]):
        top1 = f"{100 * row['top1_accuracy']['value']:.1f}" if row.get("top1_accuracy") else ""
        cells = [
            *(name, row["image_size"], f"{row['parameters_fused'] / 1e6:.1f}", f"{row['macs_image'] / 1e9:.2f}"),
            *(f"{row['latency_ms_batch_1']:.1f}", f"{row['latency_ms_batch_32']:.0f}", f"{row['peak_memory_mib']:.0f}"),
            *(row["training_seconds_per_epoch"] or "", row["joules_per_1000_images"] or "", top1),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def picture(rows: dict[str, dict[str, Any]], file: str) -> None:
    """Accuracy against latency, of the towers that have a score."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, row in rows.items():
        if row.get("top1_accuracy"):
            place = row["latency_ms_batch_1"], 100 * row["top1_accuracy"]["value"]
            axes.plot(*place, "o", color="#1d4ed8")
            axes.annotate(name, place, xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("milliseconds an image, batch 1")
    axes.set_ylabel("top-1 of a linear probe, percent")
    axes.grid(alpha=0.25)
    axes.margins(0.2)
    figure.savefig(file)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--towers", nargs="*", default=list(TOWERS), choices=list(TOWERS), metavar="TOWER")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each timing")
    parser.add_argument("--steps", type=int, default=4, help="timed training steps")
    parser.add_argument("--data", help="a source with classes to score towers on")
    parser.add_argument("--train-data", help="what the probe learns from")
    parser.add_argument("--picture", help="file of the picture")
    parser.add_argument("--cost-of", help="measure one tower in this process and print it")
    parser.add_argument("--training-of", help="time one tower's training in this process and print it")
    options = parser.parse_args()
    if bool(options.data) != bool(options.train_data) or (options.picture and not options.data):
        parser.error("--data and --train-data go together, and --picture needs them")
    if options.cost_of or options.training_of:
        one = measure(options.cost_of, options.seconds) if options.cost_of else {}
        epoch = training_seconds(options.training_of, options.steps) if options.training_of else None
        print(json.dumps(one or {"training_seconds_per_epoch": epoch}))
        return
    rows = {}
    for number, name in enumerate(options.towers, start=1):
        print(f"{number} of {len(options.towers)}: {name}", file=sys.stderr)
        rows[name] = in_a_process(sys.argv[0], "--cost-of", name, "--seconds", options.seconds)
        try:
            rows[name] |= in_a_process(sys.argv[0], "--training-of", name, "--steps", options.steps)
        except SystemExit as end:
            print(end, file=sys.stderr)
            rows[name]["training_seconds_per_epoch"] = None
        if options.data:
            rows[name]["top1_accuracy"] = score(name, options.data, options.train_data)
    print(table(rows), file=sys.stderr)
    if options.picture:
        picture(rows, options.picture)
    what = f"image towers alone; an epoch is {EPOCH_IMAGES:,} images in batches of {BATCH}"
    finish(sys.argv[0], {"what": what, "data": options.data, "towers": rows}, write=options.write)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"Error: {error}")
