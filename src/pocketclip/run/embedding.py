"""A whole source through a whole model, block by block, into the arrays that `pocketclip embed` writes."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketclip.asked import open_model
from pocketclip.curate.signals import FORMAT, measure
from pocketclip.data import Source, open_source
from pocketclip.data.identity import verify_content
from pocketclip.data.source import left_out_lines
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.features.encode import EMBED_BLOCK, embed_source
from pocketclip.files import cannot_write, encode_text
from pocketclip.stages.columns import appearing, join
from pocketclip.stages.engine import Engine, fill
from pocketclip.stages.store import MANIFEST, Block, BlockFolder, Columns, OpenStage, Stage
from pocketclip.stages.watch import SILENT, Watch

COLUMNS: Columns = {
    "images": np.zeros((0, 0), np.float32),
    "texts": np.zeros((0, 0), np.float32),
    "text_images": np.zeros(0, np.int64),
}
"""The arrays of the whole source; blocks have `indices` too."""


def open_embedding(source: str, model: str, device: str, *, verify: bool = False, watch: Watch = SILENT) -> Stage:
    """The stage of `pocketclip embed`, from what a user writes; with `verify` it hangs on every picture's bytes."""
    loaded = open_model(model, device=device)
    opened = open_source(source, place="SOURCE")
    if verify:
        verify_content(opened, watch)
    return embedding_stage(opened, loaded)


def embedding_stage(source: Source, model: Embedder) -> Stage:
    """Images, texts, their places and a line for each image, of some consecutive samples."""

    def compute(start: int, stop: int) -> Block:
        part = embed_source(model, source, start=start, stop=stop, with_texts=model.tokenizer is not None)
        lines = "".join(f"{line}\n" for line in item_lines(source, part.indices))
        arrays = {name: getattr(part, name) for name in (*COLUMNS, "indices")}
        return Block({**arrays, "items": np.frombuffer(encode_text(lines), np.uint8)}, part.broken)

    made_from = {"source": source.fingerprint(), **model.made_from()}
    told = left_out_lines(source)
    return Stage("encoding images", made_from, len(source), EMBED_BLOCK, compute, model.is_on_gpu, remarks=told)


def open_similarity(source: str, model: str, device: str) -> Stage:
    """The stage that measures a source for rules which compare embeddings; see `pocketclip.curate.signals`."""
    loaded = open_model(model, device=device)
    opened = open_source(source, place="SOURCE")

    def compute(start: int, stop: int) -> Block:
        return measure(opened, start, stop, lambda first, last: embed_source(loaded, opened, start=first, stop=last))

    made_from = {"source": opened.fingerprint(), "signals": FORMAT, **loaded.made_from()}
    told = left_out_lines(opened)
    return Stage("comparing captions", made_from, len(opened), EMBED_BLOCK, compute, loaded.is_on_gpu, remarks=told)


def item_lines(source: Source, indices: Iterable[int] | npt.NDArray[np.int64]) -> list[str]:
    """One JSON line for each image: its key, its place and its captions."""
    samples = (source[int(index)] for index in indices)
    items = ({"key": one.key, "place": one.place, "captions": list(one.captions)} for one in samples)
    return [json.dumps(item, ensure_ascii=False) for item in items]


def write_embeddings(
    stage: Stage, open_stage: OpenStage, out: Path, engine: Engine, watch: Watch, *, resume: bool
) -> tuple[int, int]:
    """Embed into `out`: images.npy, texts.npy, text_images.npy, items.jsonl and manifest.json.

    The `stage` is an `embedding_stage`, which `open_stage` opens in another process. The folder holds `blocks/` until
    all is embedded; `resume` goes on with those of an earlier call, or does nothing where it was finished.

    Returns:
        Numbers of images and captions.
    """
    manifest, blocks = out / MANIFEST, out / "blocks"
    if manifest.is_file() and not blocks.is_dir():
        if resume:
            BlockFolder(out, stage).check_manifest()
            broken = json.loads(manifest.read_text(encoding="utf-8")).get("broken", [])
            watch.work(stage.work, stage.num_samples, stage.num_samples, broken)
            return _num_rows(out / "images.npy"), _num_rows(out / "texts.npy")
        manifest.unlink()
    folder = fill(blocks, stage, open_stage, engine, watch, resume=resume)
    try:
        with appearing(out / "items.jsonl") as file:
            file.writelines(part.tobytes() for part in folder.parts("items"))
    except OSError as error:
        raise cannot_write(out, error) from error
    whole = join(folder, out, COLUMNS, text_images=_owners(folder))
    return len(whole["images"]), len(whole["texts"])


def _num_rows(file: Path) -> int:
    try:
        return len(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: missing or damaged ({error}); embed again without --resume.") from error


def _owners(folder: BlockFolder) -> Iterator[npt.NDArray[np.int64]]:
    """The row of each text's image among all; a block counts from its own first image."""
    num_images = 0
    for block in folder.read_all("text_images", "indices"):
        yield block["text_images"] + num_images
        num_images += len(block["indices"])
