"""The bank by which a model's scores are corrected: drawn from training data, embedded, kept in half precision."""

import copy
import math
import re
import shutil
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.bundle import find_bundle
from pocketclip.data.identity import picture_ids
from pocketclip.data.source import Source, Subset, readable_captions, refuse_choices
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.features.encode import embed_images
from pocketclip.files import cannot_write, write_atomically
from pocketclip.hubs import FILE, Csls, Hubs, LogSumExp
from pocketclip.run.state import Run
from pocketclip.stages.watch import SILENT, Watch

Numbers = npt.NDArray[np.int64]
HEADING = "## Hubs"
WOKEN, PROBED = 16, 96
"""Pictures that wake the model up, and those that say how long a bank takes."""
_SECTION = re.compile(rf"\n{HEADING}\n.*?(?=\n## |\Z)", re.DOTALL)


def make_hubs(
    model: Embedder, source: Source, settings: LogSumExp | Csls, *, seed: int = 0, watch: Watch = SILENT
) -> Hubs:
    """Draw captions and pictures of training data and embed them, as exactly as scores ask for.

    Raises:
        UserError: the source has no captions, or no picture that can be read.
    """
    refuse_choices(source)
    exact = model.for_scores()
    random = np.random.default_rng(seed)
    order: Numbers = random.permutation(len(source))
    texts, num_read = _draw_captions(source, order, settings.num_captions, random)
    if not texts:
        raise _no_captions(source)
    captions = exact.encode_text(texts)
    chosen = order[: settings.num_images]
    part = Subset(source, chosen, source.name)
    (images,) = embed_images(part, [exact.encode_images], exact.preprocess, watch)
    if len(images.images) == 0:
        raise UserError(f"{source.name}: no picture can be read. The first: {images.broken[0]}")
    ids = picture_ids(source, watch)[order[: max(num_read, len(chosen))]]
    return Hubs(
        settings,
        captions.astype(np.float16),
        images.images.astype(np.float16),
        np.unique(ids[ids >= 0]),
        source.name,
        source.fingerprint(),
        seed,
    )


def check_hubs(run: Run) -> None:
    """A UserError, before the first stage, where a recipe asks for a bank that its data cannot give."""
    if run.recipe.hubs is not None and not any(readable_captions(run.train_source)):
        raise _no_captions(run.train_source)


def _no_captions(source: Source) -> UserError:
    return UserError(f"{source.name}: no sample has a caption; a bank of hubs needs pictures with captions.")


def hubs_of(run: Run) -> Hubs | None:
    """The bank that a run's recipe asks for, of its training data alone, for the model as it is now."""
    if (settings := run.recipe.hubs) is None:
        return None
    started = time.perf_counter()
    model = PretrainedModel(run.model, run.recipe.model, run.tokenizer, run.preprocess).to(str(run.device))
    hubs = make_hubs(model, run.train_source, settings, seed=run.recipe.seed, watch=run.broken)
    run.seconds["hubs"] = time.perf_counter() - started
    return hubs


def hubs_seconds(run: Run, whole: Source) -> float:
    """What making the bank of `whole`, all the training data, will take; tried on a few of the run's. 0 without one."""
    if (settings := run.recipe.hubs) is None:
        return 0.0
    copied = copy.deepcopy(run.model)  # the one that trains keeps its modes
    copied.image_encoder.look_once(False)
    model = PretrainedModel(copied, run.recipe.model, run.tokenizer, run.preprocess).to(str(run.device))
    pictures = min(settings.num_images, len(whole))
    times: dict[int, float] = {}
    for count in WOKEN, PROBED:
        share = min(1.0, count / pictures)
        few = {"num_images": math.ceil(share * pictures), "num_captions": math.ceil(share * settings.num_captions)}
        began = time.perf_counter()
        made = make_hubs(model, run.train_source, settings.model_copy(update=few))
        times[len(made.images)] = time.perf_counter() - began
    (first, before), (count, seconds) = min(times.items()), max(times.items())
    each = max(0.0, seconds - before) / (count - first) if count > first else seconds / count
    return seconds + each * max(0, pictures - count)


def _draw_captions(source: Source, order: Numbers, count: int, random: np.random.Generator) -> tuple[list[str], int]:
    """One caption of each sample in this order, then a second of each, until they are enough; and of how many samples.

    So the bank is of as many pictures as there can be, and of a large source no more is read than it takes.
    """
    mixed: list[list[str]] = []
    texts: list[str] = []
    for captions in readable_captions(source, map(int, order)):
        mixed.append([captions[place] for place in random.permutation(len(captions))])
        texts += mixed[-1][:1]
        if len(texts) == count:
            return texts, len(mixed)
    for turn in range(1, max(map(len, mixed), default=0)):
        texts += [own[turn] for own in mixed if len(own) > turn]
    return texts[:count], len(mixed)


def add_hubs(place: str, model: PretrainedModel, hubs: Hubs, out: Path | None) -> Path:
    """Put a bank, and a word about it in the card, into the bundle at a place, or into a copy of it in `out`.

    Raises:
        UserError: it cannot be written, `out` is there already, or the place is a name on a hub and there is no `out`.
    """
    folder = find_bundle(place)
    if out is None and not Path(place).expanduser().exists():
        raise UserError(f"{place}: is on the hub; say where the bundle with its bank goes: --out DIR")
    if out is not None:
        if out.exists():
            raise UserError(f"--out {out}: is there already; choose a new folder, or leave --out away to change MODEL.")
        try:
            shutil.copytree(folder, out)
        except (OSError, shutil.Error) as error:
            raise cannot_write(out, error if isinstance(error, OSError) else OSError(0, str(error))) from error
        folder = out
    write_atomically(folder / FILE, hubs.to_bytes())
    write_atomically(folder / "README.md", with_hubs(model.card, hubs))
    return folder / FILE


def with_hubs(card: str, hubs: Hubs | None) -> str:
    """A model card that names the bank, in place of an earlier one; before how the model was trained, or at the end."""
    card = _SECTION.sub("", card)
    if hubs is None:
        return card
    size = len(hubs.to_bytes()) / 2**20
    section = f"""
{HEADING}

Some pictures are near to every sentence, and some sentences to every picture. `{FILE}` ({size:.1f} MiB) is a bank of
training data by which scores are corrected: {hubs.told.replace("`", "")}. `pocketclip evaluate`
reports corrected scores beside the plain ones; `pocketclip index` keeps one number a picture, by which
`pocketclip search` ranks.
"""
    before, heading, after = card.partition("\n## Training\n")
    return f"{before}{section}{heading}{after}"
