"""What published image-text models took to train, beside what a model's own record says of it."""

from dataclasses import dataclass

from pocketclip.records import RunRecord
from pocketclip.report.amounts import duration, short_count, short_dollars

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Approach:
    """One row: figures as their sources give them, and the sources."""

    name: str
    parameters: str
    pairs: str
    dollars: str
    source: str


PUBLISHED = (
    Approach(
        *("CLIP, ViT-L/14 at 336 px", "428 M", "400 M", "> $77,000"),
        "Pairs: Radford et al. 2021, arXiv 2103.00020. Dollars: estimated by the author of S-SMKE for 256 V100 GPUs, "
        "12 days, $1.05 a GPU and hour.",
    ),
    Approach(
        *("VLMo, large", "562 M", "1 B", "≫ $10,000"),
        "Bao et al. 2022, arXiv 2111.02358. Dollars: the author of S-SMKE estimates $9,676 for its training on 4 M "
        "pairs (128 V100 GPUs, 3 days); what training on 1 B pairs took was not published.",
    ),
    Approach(
        *("CoCa", "2.1 B", "> 3 B", "> $350,000"),
        "Yu et al. 2022, arXiv 2205.01917: labels of JFT-3B as texts, and ALIGN's pairs; about 5 days on 2,048 TPU v4 "
        "chips. Dollars: estimated by the author of S-SMKE in the draft of a paper.",
    ),
    Approach(
        *("S-SMKE", "117 M", "3.3 M", "$15.5"),
        "Cares 2024, thesis at Hochschule Hannover (github.com/TimCares/MasterThesis): 11.2 hours of two RTX 4090 GPUs "
        "at $1.38 an hour for both. The estimates for CLIP and VLMo are from there.",
    ),
)


def own_row(name: str, num_parameters: int, record: RunRecord | None) -> Approach:
    """A model's row: parameters counted in the model, the rest from the record of its run and never guessed."""
    count = short_count(num_parameters)
    if record is None:
        return Approach(name, count, NOT_RECORDED, NOT_RECORDED, "Counted in the model; it came without a run record.")
    pairs = NOT_RECORDED if record.num_captions is None else short_count(record.num_captions)
    price = NOT_RECORDED if record.price_dollars is None else short_dollars(record.price_dollars)
    hint = "; `pocketclip train --price` records a price" if record.price_dollars is None else ""
    source = (
        f"Parameters counted in the model; the rest from its run record: {record.num_images:,} images, "
        f"{duration(record.seconds['total'])} on {record.provenance.machine}{hint}."
    )
    return Approach(name, count, pairs, price, source)
