"""All costs of a model as one record."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from pocketclip.asked import LibraryModel
from pocketclip.cost.flops import tower_macs
from pocketclip.cost.latency import latency
from pocketclip.cost.memory import peak_mib
from pocketclip.cost.parameters import count_parameters, parameters_by_part, parameters_by_side
from pocketclip.hardware import Load
from pocketclip.image_size import ImageSize
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.running.precision import Precision, resolve_device
from pocketclip.models.running.reparam import reparameterize
from pocketclip.models.running.runner import MODALITIES, Runner
from pocketclip.models.running.threads import THREADS
from pocketclip.records import CostResult, Provenance
from pocketclip.stages.watch import SILENT, Watch

CAPTION_TOKENS = 16


def measure_cost(
    model: DualEncoder,
    *,
    name: str,
    image_size: ImageSize,
    context_length: int,
    device: str = "auto",
    precision: Precision = "auto",
    seconds: float = 1.0,
    bundle: Path | None = None,
    more_notes: Sequence[str] = (),
    watch: Watch = SILENT,
) -> CostResult:
    """Parameters, MACs, latency, throughput and peak memory; the weights of a model do not matter to them.

    MACs are counted at `context_length` tokens, and latency and throughput measured at `CAPTION_TOKENS`, for `seconds`
    each. The size of a `bundle` on disk is added; `more_notes` come after those on what was measured. The `watch` is
    told how far it is.
    """
    watch.work("counting", 0, 1)
    where = resolve_device(device)
    num_tokens = min(CAPTION_TOKENS, context_length)
    fused = reparameterize(model)  # as inference runs it: branches that only training has would count more than once
    metrics: dict[str, float | int | str | None] = {
        **parameters_by_part(model),
        "parameters_image_fused": count_parameters(fused.image_encoder),
        "parameters_text_fused": count_parameters(fused.text_encoder),
        **tower_macs(fused, image_size=image_size, context_length=context_length),
        "context_length": context_length,
    }
    del fused  # no part of the memory that is measured next
    THREADS.fit()
    load = Load()
    runner = Runner(model, device=where, precision=precision, image_size=image_size)
    watch.work("counting", 1, 1)
    metrics.update(_timings(runner, where, image_size=image_size, num_tokens=num_tokens, seconds=seconds, watch=watch))
    provenance = Provenance.under(load)
    single = [part for part in MODALITIES if runner.suited_threads(part, 1) < torch.get_num_threads()]
    alone = f" ({' and '.join(single)} with one thread)" if single else ""
    if bundle is not None:
        metrics["bundle_mib"] = round(folder_bytes(bundle) / 2**20, 2)
    notes = [
        f"MACs of one image and of one text of {context_length} tokens, fused, heads and attention included",
        f"latency at batch 1{alone}, throughput at batch 32; texts of {num_tokens} tokens; random inputs",
        *_few_runs(metrics),
        *more_notes,
    ]
    return CostResult(name=name, metrics=metrics, notes=notes, provenance=provenance)


def measure_latency(
    model: DualEncoder, *, image_size: ImageSize, context_length: int, device: str = "auto", seconds: float = 1.0
) -> tuple[float, Provenance]:
    """The `latency_ms_p50` of `measure_cost` alone: one picture and one sentence, for `seconds` each."""
    THREADS.fit()
    load, where = Load(), resolve_device(device)
    runner = Runner(model, device=where, image_size=image_size)
    num_tokens = min(CAPTION_TOKENS, context_length)
    timings = latency(runner, image_size=image_size, num_tokens=num_tokens, seconds=seconds, batches=(1,))
    return float(timings["latency_ms_p50"]), Provenance.under(load)


def measure_library_cost(model: LibraryModel, *, seconds: float = 1.0, watch: Watch = SILENT) -> CostResult:
    """The same of another library's model, as that library runs it: nothing is fused, and heads are part of towers."""
    reader, size = model.tokenizer, model.preprocess.image_size if model.knows_images else 0
    length = 0 if reader is None else reader.context_length
    macs = tower_macs(model, image_size=size, context_length=length)
    metrics: dict[str, float | int | str | None] = {**parameters_by_side(model), **macs}
    notes = ["as its library runs it, nothing fused; parameters with each side's projection", "random inputs"]
    num_tokens = 0
    if reader is not None:
        metrics["context_length"] = length
        num_tokens = length if reader.is_whole else min(CAPTION_TOKENS, length)
        notes[1] = f"latency at batch 1, throughput at batch 32; texts of {num_tokens} tokens; random inputs"
    THREADS.fit()
    load = Load()
    timings = _timings(model, model.device, image_size=size, num_tokens=num_tokens, seconds=seconds, watch=watch)
    metrics.update(timings)
    notes += _few_runs(metrics)
    return CostResult(name=model.name, metrics=metrics, notes=notes, provenance=Provenance.under(load))


def _timings(
    runner: Runner | LibraryModel,
    device: torch.device,
    *,
    image_size: ImageSize,
    num_tokens: int,
    seconds: float,
    watch: Watch,
) -> dict[str, float | int | str]:
    """Latency and throughput, and the memory that measuring them took."""
    timings: dict[str, float | int | str] = {}
    time_them = partial(latency, runner, image_size=image_size, num_tokens=num_tokens, seconds=seconds, watch=watch)
    memory = peak_mib(lambda: timings.update(time_them()), device)
    return timings | memory


def _few_runs(metrics: Mapping[str, float | int | str | None]) -> list[str]:
    """A note where calls took so long that they were timed a few times only."""
    return [f"a call takes long, so one timing has only {metrics['num_runs']} of them"] if "num_runs" in metrics else []


def folder_bytes(folder: Path) -> int:
    """Of all files of a bundle."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
