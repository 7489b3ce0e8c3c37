"""The cost of whatever a user names: any model that can be asked, a size, or a recipe before it is trained."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pocketclip.asked import LibraryModel, PretrainedModel, library_model
from pocketclip.bundle import find_bundle
from pocketclip.cost.energy import measure_energy
from pocketclip.cost.price import price_dollars
from pocketclip.cost.weigh import measure_cost, measure_library_cost
from pocketclip.errors import UserError, unknown_choice
from pocketclip.files import did_you_mean
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.running.precision import Precision, resolve_device
from pocketclip.models.sizes import list_sizes
from pocketclip.recipe import load_recipe
from pocketclip.records import CostResult
from pocketclip.shipped_recipes import find_recipe, list_recipes
from pocketclip.stages.watch import SILENT, Watch


def cost_of(
    place: str,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    seconds: float = 1.0,
    dollars_per_hour: float | None = None,
    with_energy: bool = False,
    watch: Watch = SILENT,
) -> CostResult:
    """The cost of what `open_model` takes, of a size, or of a recipe's model before it is trained.

    Each of the four timings lasts some `seconds`. `dollars_per_hour` of this machine adds the price of a million images
    and of a million texts, `with_energy` the energy of the timings by codecarbon. The `watch` is told how far it is.
    """
    library = library_model(place)
    if library is not None:
        watch.work("loading", 0, 1)
        built = library.build(resolve_device(device), precision)
        if not isinstance(built, LibraryModel):
            raise UserError(
                f"{place}: its parts cannot be weighed; cost takes models whose library runs them by torch."
            )
        weigh = partial(measure_library_cost, built, seconds=seconds, watch=watch)
    else:
        weigh = partial(_built(place, watch), device=device, precision=precision, seconds=seconds, watch=watch)
    with measure_energy(with_energy) as energy:
        result = weigh()
    metrics, notes = dict(result.metrics), list(result.notes)
    if with_energy:
        metrics["energy_kwh"] = energy.kwh
        notes.append(f"energy of these measurements: {energy.method}")
    if dollars_per_hour is not None:
        metrics["dollars_per_hour"] = dollars_per_hour
        for part in ("image", "text"):
            per_second = float(metrics.get(f"throughput_{part}_per_second") or 0)
            if per_second:
                metrics[f"dollars_per_million_{part}s"] = round(price_dollars(1e6 / per_second, dollars_per_hour), 4)
    return result.model_copy(update={"metrics": metrics, "notes": notes})


def _built(place: str, watch: Watch) -> Callable[..., CostResult]:
    """`measure_cost` of a bundle, a size or a recipe's model, which is built already: that costs no energy here."""
    bundle = _find_bundle_unless_recipe(place)
    if bundle is not None:
        watch.work("loading", 0, 1)
        loaded = PretrainedModel.from_pretrained(bundle)
        size, context_length = loaded.preprocess.image_size, loaded.tokenizer.context_length
        return partial(
            measure_cost, loaded.model, name=place, image_size=size, context_length=context_length, bundle=bundle
        )
    if place in list_sizes() and not Path(place).exists():
        name, config = place, DualEncoderConfig.parse(place, place=place)
    else:
        name, config = find_recipe(place).stem, load_recipe(place).model
    text, notes = config.text_encoder, []
    if text.vocabulary == "occurring":
        notes = ["text parameters are those of the whole vocabulary; the captions decide what is kept of it"]
    vocabulary_size = text.vocabulary_size if text.tokenizer == "captions" else None
    watch.work("building", 0, 1)
    model = build_model(config, load_pretrained=False, vocabulary_size=vocabulary_size)
    size, context_length = config.image_encoder.image_size, text.context_length
    return partial(measure_cost, model, name=name, image_size=size, context_length=context_length, more_notes=notes)


def _find_bundle_unless_recipe(place: str) -> Path | None:
    """A bundle's folder; None for a recipe or a size."""
    path = Path(place)
    names = [*list_recipes(), *list_sizes()]
    if path.is_file() or (place in names and not path.exists()):
        return None
    try:
        return find_bundle(place)
    except UserError as error:
        if (path / "recipe.yaml").is_file():
            return None  # a run that has not finished
        if path.exists():
            raise
        near = unknown_choice("recipe or size", place, names)
        raise UserError(f"{place}: neither a bundle nor a run folder.{did_you_mean(path) or f' {near}'}") from error
