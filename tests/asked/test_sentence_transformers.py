"""Models of sentence-transformers against the library's own `encode`."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import teachers as tiny
from conftest import encode_picture, normalize_pixels
from pocketclip.asked import AskedModel, open_model
from pocketclip.cost.weigh import measure_library_cost
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.preprocess import open_image
from pocketclip.tokenizer import train_tokenizer

library = pytest.importorskip("sentence_transformers")
CAPTIONS = ["picture 1 caption 2", "scene 3", "picture 4 caption 4"]
SIZES = ((40, 30), (30, 53), (97, 64), (64, 24))
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Towers as transformers writes them, and as sentence-transformers does."""
    folder = tmp_path_factory.mktemp("models")
    found = {kind: tiny.write_huggingface_teacher(folder / kind, kind) for kind in ("clip", "siglip")}
    settings = found["siglip"] / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("{", '{"model_input_names": ["input_ids"],', 1))  # as Google's
    for kind in tuple(found):
        found[f"{kind}_saved"] = folder / f"{kind}_saved"
        opened(found[kind]).save(str(found[f"{kind}_saved"]))
    return found


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Files of pictures that are not square."""
    paths = [tmp_path / f"{number}.png" for number in range(len(SIZES))]
    for number, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        path.write_bytes(encode_picture(number, size, kind="PNG"))
    return paths


def opened(folder: Path) -> Any:
    return library.SentenceTransformer(str(folder), device="cpu")


def asked(folder: Path) -> Embedder:
    return open_model(f"st:{folder}", device="cpu", precision="float32")


def assert_pictures_match(model: Embedder, theirs: Any, photos: list[Path]) -> None:
    """To 1e-5 from the same pixels, and from files, which the library resizes with torch."""
    resize = model.resize()
    pixels = np.stack([resize(open_image(path)) for path in photos])
    inputs = torch.from_numpy(normalize_pixels(pixels, model.preprocess))
    with torch.no_grad():
        same = theirs({"pixel_values": inputs, "modality": "image"})["sentence_embedding"]
    found = model.encode_image(photos)
    np.testing.assert_allclose(found, torch.nn.functional.normalize(same, dim=1).numpy(), atol=1e-5)
    files = theirs.encode([open_image(path) for path in photos], normalize_embeddings=True)
    np.testing.assert_allclose(found, files, atol=1e-5)
    grey = [open_image(path).resize((24, 24)) for path in photos]  # nothing to resize: to the last digits
    np.testing.assert_allclose(model.encode_image(grey), theirs.encode(grey, normalize_embeddings=True), atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "clip_saved"])
def test_a_clip_embeds_what_their_encode_does(kind: str, folders: dict[str, Path], photos: list[Path]) -> None:
    model, theirs = asked(folders[kind]), opened(folders[kind])
    assert_pictures_match(model, theirs, photos)
    np.testing.assert_allclose(
        model.encode_text(CAPTIONS), theirs.encode(CAPTIONS, normalize_embeddings=True), atol=1e-5
    )
    assert model.inverse_temperature == pytest.approx(theirs[0].model.logit_scale.exp().item())


@pytest.mark.parametrize("kind", ["siglip", "siglip_saved"])
def test_a_siglip_reads_texts_as_it_was_trained_whatever_stands_beside_them(
    kind: str, folders: dict[str, Path], photos: list[Path]
) -> None:
    model, theirs = asked(folders[kind]), opened(folders[kind])
    assert_pictures_match(model, theirs, photos)
    padded = {"text": {"padding": "max_length", "max_length": 10}}
    expected = theirs.encode(CAPTIONS, normalize_embeddings=True, processing_kwargs=padded)
    np.testing.assert_allclose(model.encode_text(CAPTIONS), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode_text(CAPTIONS[1]), model.encode_text(CAPTIONS)[1:2], atol=1e-6)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_pictures_and_sentences_are_mixed_where_theirs_cannot(
    kind: str, folders: dict[str, Path], photos: list[Path]
) -> None:
    model, mixed = asked(folders[kind]), [photos[0], CAPTIONS[0], open_image(photos[1]), CAPTIONS[1]]
    with pytest.raises(ValueError, match="mix"):
        opened(folders[kind]).encode([open_image(photos[0]), CAPTIONS[0]])
    rows = model.encode(mixed)
    np.testing.assert_allclose(rows[[0, 2]], model.encode_image(photos[:2]), atol=1e-6)
    np.testing.assert_allclose(rows[[1, 3]], model.encode_text(CAPTIONS[:2]), atol=1e-6)


def test_a_text_that_is_too_long_is_cut(folders: dict[str, Path]) -> None:
    model = asked(folders["clip"])
    assert model.tokenizer is not None
    assert model.tokenizer.context_length == 10
    long = "picture 1 " * 30
    assert model.is_cut(long)
    assert np.array_equal(model.encode_text(long), model.encode_text(f"{long}scene"))


def write_texts_only(folder: Path, **options: Any) -> Path:
    """A BERT of sentences with a smaller space of its own, as many models of the library are."""
    import transformers
    from sentence_transformers.sentence_transformer import modules

    core = train_tokenizer(tiny.TEXTS, vocabulary_size=150, context_length=16).core
    core.no_truncation()
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "unk", "mask")}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=12, **special)
    layers = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=150, max_position_embeddings=16, **layers)
    transformers.BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    steps = [modules.Transformer(str(folder / "bert")), modules.Pooling(16, "mean", include_prompt=False)]
    steps += [modules.Dense(16, 8), modules.Normalize()]
    library.SentenceTransformer(modules=steps, device="cpu", **options).save(str(folder / "texts"))
    return folder / "texts"


@pytest.mark.parametrize(
    "options", [{}, {"prompts": {"query": "scene 1 "}, "default_prompt_name": "query"}, {"truncate_dim": 5}]
)
def test_a_model_of_texts_answers_for_texts_alone(
    options: dict[str, Any], tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_texts_only(tmp_path, **options)
    model, theirs = asked(folder), opened(folder)
    texts = [*CAPTIONS, "picture 3 " * 20]
    np.testing.assert_allclose(model.encode_text(texts), theirs.encode(texts, normalize_embeddings=True), atol=1e-5)
    assert (model.embed_dim, model.inverse_temperature) == (theirs.get_embedding_dimension(), None)
    assert "no images" in repr(model)
    assert "preprocess" in model.made_from()
    for ask in (
        lambda: model.encode_image(photos[0]),
        lambda: model.encode([photos[0], "a"]),
        lambda: model.preprocess,
    ):
        with pytest.raises(UserError, match="knows texts only, and this asks it about images; choose a model of both"):
            ask()
    monkeypatch.setattr("pocketclip.cost.latency.WARM_UP_SECONDS", 0.0)
    weighed = measure_library_cost(model, seconds=0.0).metrics  # type: ignore[arg-type]
    assert {name for name in weighed if name.endswith("_image")} == set()
    assert float(weighed["macs_text"] or 0) > 0


def test_what_shapes_its_vectors_changes_the_fingerprint(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [{}, {"truncate_dim": 5}, {"prompts": {"q": "scene "}, "default_prompt_name": "q"}]
    with torch.random.fork_rng():
        marks = set()
        for number, options in enumerate(kinds):
            torch.manual_seed(0)
            model = asked(write_texts_only(tmp_path / str(number), **options))
            assert isinstance(model, AskedModel)
            marks.add(model.fingerprint)
    assert len(marks) == 3


def test_towers_of_different_widths_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import CLIPModel

    folder = tiny.write_huggingface_teacher(tmp_path / "clip")
    texts = CLIPModel.get_text_features

    @functools.wraps(texts)
    def narrower(self: Any, **inputs: Any) -> Any:
        output = texts(self, **inputs)
        output.pooler_output = output.pooler_output[:, :7]
        return output

    monkeypatch.setattr(CLIPModel, "get_text_features", narrower)
    for prefix in ("st", "hf"):
        with pytest.raises(UserError, match=rf"{prefix}:.*: an image becomes 12 numbers and a text 7, so that they"):
            open_model(f"{prefix}:{folder}", device="cpu")


def test_what_reads_neither_texts_nor_images_is_named(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer import modules

    core = train_tokenizer(tiny.TEXTS, vocabulary_size=150, context_length=16).core
    static = modules.StaticEmbedding(core, embedding_dim=8)
    library.SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path / "static"))
    with pytest.raises(UserError, match=r"Model sentence_transformers .*static: is a StaticEmbedding; taken are CLIP"):
        open_model(f"st:{tmp_path / 'static'}", device="cpu")
