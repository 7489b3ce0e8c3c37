"""All costs of a model as one record."""

from pathlib import Path

from pocketclip.cost.flops import tower_macs
from pocketclip.cost.latency import latency
from pocketclip.cost.memory import peak_mib
from pocketclip.cost.parameters import count_parameters, parameters_by_part
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.inference import Runner
from pocketclip.models.precision import Precision, resolve_device
from pocketclip.models.reparam import reparameterize
from pocketclip.records import CostResult

CAPTION_TOKENS = 16


def measure_cost(
    model: DualEncoder,
    *,
    name: str,
    image_size: int,
    context_length: int,
    device: str = "auto",
    precision: Precision = "auto",
    seconds: float = 1.0,
    bundle: Path | None = None,
) -> CostResult:
    """Parameters, MACs, latency, throughput and peak memory.

    Args:
        model: built; its weights do not matter to the numbers.
        name: for the record.
        image_size: pixels of a side.
        context_length: tokens that MACs are counted at; latency is measured at `CAPTION_TOKENS`.
        device: `cpu`, `cuda` or `auto`.
        precision: of latency and throughput.
        seconds: spent on each of the four timings.
        bundle: its size on disk is added.
    """
    where = resolve_device(device)
    num_tokens = min(CAPTION_TOKENS, context_length)
    metrics: dict[str, float | int | str | None] = {**parameters_by_part(model)}
    metrics.update(_fused_costs(model, image_size=image_size, context_length=context_length))
    metrics["context_length"] = context_length
    runner = Runner(model, device=where, precision=precision, image_size=image_size)
    timings: dict[str, float | int | str] = {}

    def measure() -> None:
        timings.update(latency(runner, image_size=image_size, num_tokens=num_tokens, seconds=seconds))

    memory = peak_mib(measure, where)
    metrics.update(timings)
    metrics.update(memory)
    if bundle is not None:
        size = sum(path.stat().st_size for path in bundle.iterdir() if path.is_file())
        metrics["bundle_mib"] = round(size / 2**20, 2)
    notes = [
        f"MACs of one image and of one text of {context_length} tokens, fused, heads and attention included",
        f"latency at batch 1, throughput at batch 32; texts of {num_tokens} tokens; random inputs",
    ]
    return CostResult(name=name, metrics=metrics, notes=notes)


def _fused_costs(model: DualEncoder, *, image_size: int, context_length: int) -> dict[str, int]:
    """Of the model as inference runs it: branches that only training has would count more than once."""
    fused = reparameterize(model)
    return {
        "parameters_image_fused": count_parameters(fused.image_encoder),
        "parameters_text_fused": count_parameters(fused.text_encoder),
        **tower_macs(fused, image_size=image_size, context_length=context_length),
    }
