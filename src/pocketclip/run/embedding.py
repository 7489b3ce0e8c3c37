"""A whole source through a whole model, block by block, into the arrays that `pocketclip embed` writes."""

import json
import os
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketclip.config import digest
from pocketclip.curate.filter import measure
from pocketclip.data import Source, open_source
from pocketclip.data.blocks import Block, BlockFolder, Engine, OpenStage, Stage, fill
from pocketclip.data.encode import EMBED_BLOCK
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import embed_source
from pocketclip.files import cannot_write, write_atomically
from pocketclip.models.inference import module_fingerprint
from pocketclip.models.pretrained import PretrainedModel
from pocketclip.stages.watch import Watch

PACKAGES = ("pocketclip", "torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow")
ARRAYS = ("images", "texts", "text_images", "indices")


def open_embedding(source: str, model: str, device: str) -> Stage:
    """The stage of `pocketclip embed`, from what a user writes.

    Raises:
        UserError: the source or the model cannot be opened.
    """
    loaded = PretrainedModel.from_pretrained(model).to(device)
    return embedding_stage(open_source(source, place="SOURCE"), loaded)


def embedding_stage(source: Source, model: PretrainedModel) -> Stage:
    """Images, texts, their places and a line for each image, of some consecutive samples."""

    def compute(start: int, stop: int) -> Block:
        found = embed_source(model, source, start=start, stop=stop)
        lines = "".join(f"{line}\n" for line in item_lines(source, found.indices))
        arrays = {name: getattr(found, name) for name in ARRAYS}
        return Block({**arrays, "items": np.frombuffer(lines.encode(), np.uint8)}, found.broken)

    made_from = {"source": source.fingerprint(), **model_key(model)}
    return Stage(
        "encoding images", made_from, len(source), EMBED_BLOCK, compute, on_gpu=model.runner.device.type == "cuda"
    )


def open_similarity(source: str, model: str, device: str) -> Stage:
    """The stage that measures a source for rules which compare embeddings; see `pocketclip.curate.filter`."""
    loaded = PretrainedModel.from_pretrained(model).to(device)
    opened = open_source(source, place="SOURCE")

    def compute(start: int, stop: int) -> Block:
        return measure(opened, start, stop, lambda first, last: embed_source(loaded, opened, start=first, stop=last))

    made_from = {"source": opened.fingerprint(), **model_key(loaded)}
    return Stage(
        "comparing captions", made_from, len(opened), EMBED_BLOCK, compute, on_gpu=loaded.runner.device.type == "cuda"
    )


def model_key(model: PretrainedModel) -> dict[str, Any]:
    """Everything of a model and its surroundings that its embeddings depend on."""
    return {
        "model": module_fingerprint(model.model, digest(model.config.model_dump(mode="json"))),
        "tokenizer": digest(model.tokenizer.to_json()),
        "context_length": model.tokenizer.context_length,
        "preprocess": model.preprocess.model_dump(mode="json"),
        "precision": model.runner.precision,
        "backends": [model.runner.image_backend, model.runner.text_backend],
        "device": model.runner.device.type,
        "versions": {name: version(name) for name in PACKAGES},
    }


def item_lines(source: Source, indices: Iterable[int] | npt.NDArray[np.int64]) -> list[str]:
    """One JSON line for each image: its key, its place and its captions."""
    lines = []
    for index in indices:
        sample = source[int(index)]
        values = {"key": sample.key, "place": sample.place, "captions": list(sample.captions)}
        lines.append(json.dumps(values, ensure_ascii=False))
    return lines


def write_embeddings(
    stage: Stage, open_stage: OpenStage, out: Path, engine: Engine, watch: Watch, *, resume: bool
) -> tuple[int, int]:
    """Embed into `out`: images.npy, texts.npy, text_images.npy, items.jsonl and manifest.json.

    Args:
        stage: an `embedding_stage`.
        open_stage: opens the same one in another process.
        out: made if missing; holds `blocks/` until everything is embedded.
        engine: what computes the blocks.
        watch: told of the samples done and of broken items.
        resume: go on with the blocks of an earlier call, or do nothing where it was finished.

    Returns:
        Numbers of images and captions.

    Raises:
        UserError: `out` holds something made from other inputs, or the disk is full.
    """
    manifest, blocks = out / "manifest.json", out / "blocks"
    if manifest.is_file() and not blocks.is_dir():
        if resume:
            BlockFolder(out, stage).check_manifest(manifest)
            return _num_rows(out / "images.npy"), _num_rows(out / "texts.npy")
        manifest.unlink()
    folder = fill(blocks, stage, open_stage, engine, watch, resume=resume)
    try:
        counts = _join(folder, out)
        write_atomically(manifest, json.dumps(folder.manifest(), indent=2) + "\n")
    except OSError as error:
        raise cannot_write(out, error) from error
    folder.remove()
    return counts


def _num_rows(file: Path) -> int:
    try:
        return len(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: missing or damaged ({error}); embed again without --resume.") from error


def _join(folder: BlockFolder, out: Path) -> tuple[int, int]:
    """Write the arrays block by block, so that they need not fit into memory."""
    num_images, owners = 0, []
    for block in folder.read_all("text_images", "indices"):
        owners.append(block.arrays["text_images"] + num_images)  # a block counts from its own first image
        num_images += len(block.arrays["indices"])
    num_texts = sum(len(part) for part in owners)
    write_rows(out / "text_images.npy", owners, np.dtype(np.int64), (num_texts,))
    for name, rows in (("images", num_images), ("texts", num_texts)):
        blocks = (block.arrays[name] for block in folder.read_all(name))
        widths = (part.shape[1] for block in folder.read_all(name) if len(part := block.arrays[name]))
        write_rows(out / f"{name}.npy", blocks, np.dtype(np.float32), (rows, next(widths, 0)))
    temporary = out / ".items.partial"
    with temporary.open("wb") as file:
        for block in folder.read_all("items"):
            file.write(block.arrays["items"].tobytes())
    temporary.replace(out / "items.jsonl")
    return num_images, num_texts


def write_rows(path: Path, parts: Iterable[npt.NDArray[Any]], dtype: np.dtype[Any], shape: Sequence[int]) -> None:
    """Write parts one after the other as one .npy file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    with temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).tobytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
