"""Models by the names that users write: each adapter against its own library, and what can be done with all alike."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

import teachers as tiny
from conftest import build_tiny_pretrained, encode_picture, normalize_pixels
from pocketclip.asked import AskedModel, LibraryModel, PretrainedModel, lasting_name, open_model
from pocketclip.config import Config
from pocketclip.cost.flops import count_macs, tower_macs
from pocketclip.cost.parameters import parameters_by_side
from pocketclip.data import open_source
from pocketclip.embedder import Embedder
from pocketclip.errors import UserError
from pocketclip.evaluate.tasks import TaskData
from pocketclip.evaluate.tasks.fine_tuning import FineTuning
from pocketclip.evaluate.tasks.linear_probe import LinearProbe
from pocketclip.features.encode import embed_source
from pocketclip.models.build import build_model
from pocketclip.models.image.config import TimmImageEncoderConfig
from pocketclip.preprocess import open_image, resize_image

CAPTIONS = ["picture 1 caption 2", "scene 3", "picture 4 caption 4 picture 4 caption 4 picture 4 caption 4"]
SIZES = ((40, 30), (30, 52), (97, 64), (64, 24))
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a user writes for a tiny model of each kind."""
    import timm

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit").state_dict(), folder / "vit.pth")
    found = {
        "bundle": str(tiny.write_bundle_teacher(folder / "bundle")),
        "clip": f"hf:{tiny.write_huggingface_teacher(folder / 'clip')}",
        "siglip": f"hf:{tiny.write_huggingface_teacher(folder / 'siglip', 'siglip')}",
        "timm": f"timm:test_vit/{folder / 'vit.pth'}",
    }
    if importlib.util.find_spec("sentence_transformers"):
        found["st"] = f"st:{folder / 'clip'}"
    try:
        name, file = tiny.write_open_clip_teacher(folder / "open_clip")
    except ImportError:
        return found
    return {**found, "open_clip": f"open_clip:{name}/{file}"}


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Files of pictures that are not square."""
    paths = [tmp_path / f"{number}.png" for number in range(len(SIZES))]
    for number, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        path.write_bytes(encode_picture(number, size, kind="PNG"))
    return paths


def opened(kind: str, names: dict[str, str], **options: Any) -> Embedder:
    if kind not in names:
        pytest.skip(f"{kind} is not installed")
    return open_model(names[kind], device="cpu", **{"precision": "float32", **options})


def resized(model: Embedder, photos: list[Path]) -> torch.Tensor:
    """Pixels as the adapter makes them, normalised: what the library's model takes."""
    resize = model.resize()
    pixels = np.stack([resize(open_image(path)) for path in photos])
    return torch.from_numpy(normalize_pixels(pixels, model.preprocess))


def unit(vectors: torch.Tensor) -> Floats:
    rows: Floats = F.normalize(vectors.detach(), dim=1).numpy()
    return rows


def test_open_clip_models_embed_what_open_clip_does(names: dict[str, str], photos: list[Path]) -> None:
    model = opened("open_clip", names)
    import open_clip

    name, _, file = names["open_clip"].removeprefix("open_clip:").partition("/")
    library, _, transform = open_clip.create_model_and_transforms(name, pretrained=file)
    library.eval()
    pictures = torch.stack([transform(open_image(path)) for path in photos])
    with torch.no_grad():
        expected, own = unit(library.encode_image(pictures)), unit(library.encode_image(resized(model, photos)))
        texts = library.encode_text(open_clip.get_tokenizer(name)(CAPTIONS), normalize=True)
    np.testing.assert_allclose(model.encode_image(photos), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode_image(photos), own, atol=1e-5)
    np.testing.assert_allclose(model.encode_text(CAPTIONS), texts.numpy(), atol=1e-5)
    assert model.name == names["open_clip"]


def test_a_folder_of_open_clip_that_squashes_is_embedded_to_the_last_digits(tmp_path: Path, photos: list[Path]) -> None:
    open_clip = pytest.importorskip("open_clip")
    name = f"local-dir:{tiny.write_open_clip_folder(tmp_path / 'folder')}"
    model = open_model(f"open_clip:{name}", device="cpu", precision="float32")
    library, _, transform = open_clip.create_model_and_transforms(name)
    with torch.no_grad():
        expected = unit(library.eval().encode_image(torch.stack([transform(open_image(path)) for path in photos])))
    assert (model.preprocess.resize, model.preprocess.interpolation) == ("squash", "bilinear")
    np.testing.assert_allclose(model.encode_image(photos), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers_models_embed_what_transformers_does(kind: str, names: dict[str, str], photos: list[Path]) -> None:
    import transformers

    model, folder = opened(kind, names), names[kind].removeprefix("hf:")
    library = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pictures = processor(images=[open_image(path) for path in photos], return_tensors="pt")
    padding = {"padding": "max_length"} if kind == "siglip" else {"padding": True}
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        CAPTIONS, max_length=10, truncation=True, return_tensors="pt", **padding
    )
    inputs = {name: tokens[name] for name in ("input_ids", *(["attention_mask"] if kind == "clip" else []))}
    with torch.no_grad():
        expected = unit(library.get_image_features(**pictures).pooler_output)
        own = unit(library.get_image_features(pixel_values=resized(model, photos)).pooler_output)
        texts = unit(library.get_text_features(**inputs).pooler_output)
    found = model.encode_image(photos)
    np.testing.assert_allclose(found, own, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    pillows = np.stack([resize_image(open_image(path), model.preprocess) for path in photos])
    assert (found * model.encode_images(pillows)).sum(axis=1).min() > 0.999
    assert not np.allclose(found, model.encode_images(pillows), atol=1e-5)  # why the library's own resize is taken
    np.testing.assert_allclose(model.encode_text(CAPTIONS), texts, atol=1e-5)


def test_of_a_panorama_only_the_part_that_is_kept_is_resized(names: dict[str, str], photos: list[Path]) -> None:
    import transformers

    model, folder = opened("clip", names), names["clip"].removeprefix("hf:")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    photos[0].write_bytes(encode_picture(0, (900, 30), kind="PNG"))
    picture = open_image(photos[0])
    pixels = processor(images=[picture], do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    own = model.resize()(picture)
    assert np.array_equal(own, resize_image(picture, model.preprocess))
    assert np.abs(own.astype(int) - np.moveaxis(pixels, 0, -1)).max() <= 1


def test_timm_models_embed_what_timm_does(names: dict[str, str], photos: list[Path]) -> None:
    import timm
    from timm.data import create_transform, resolve_model_data_config

    model = opened("timm", names)
    library = timm.create_model("test_vit", num_classes=0, checkpoint_path="").eval()
    library.load_state_dict(torch.load(names["timm"].partition("/")[2]), strict=False)
    transform = create_transform(**resolve_model_data_config(library))
    with torch.no_grad():
        expected = unit(library(torch.stack([transform(open_image(path)) for path in photos])))
        own = unit(library(resized(model, photos)))
    np.testing.assert_allclose(model.encode_image(photos), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode_image(photos), own, atol=1e-5)
    assert (model.preprocess.image_size, round(model.preprocess.crop_fraction, 2)) == (160, 0.95)
    assert (model.tokenizer, model.inverse_temperature) == (None, None)
    with pytest.raises(UserError, match=r"timm:test_vit/.*: knows images only"):
        model.encode_text("a dog")


KINDS = ["bundle", "clip", "siglip", "open_clip", "st", "timm"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_is_embedded_as_its_pictures_and_captions_are(
    kind: str, names: dict[str, str], make_folder: Callable[..., Path]
) -> None:
    model = opened(kind, names)
    source = open_source(f"folder:{make_folder(5, 2)}")
    knows_texts = model.tokenizer is not None
    found = embed_source(model, source, with_texts=knows_texts)
    samples = [source[number] for number in range(5)]
    np.testing.assert_allclose(found.images, model.encode_image([sample.image for sample in samples]), atol=0.02)
    assert found.images.shape == (5, model.embed_dim)
    np.testing.assert_allclose(np.linalg.norm(found.images, axis=1), 1, atol=1e-5)
    if knows_texts:
        captions = [caption for sample in samples for caption in sample.captions]
        np.testing.assert_allclose(found.texts, model.encode_text(captions), atol=1e-5)
    else:
        assert found.texts.shape == (0, 0)
        with pytest.raises(UserError, match="knows images only"):
            embed_source(model, source)


@pytest.mark.parametrize("kind", KINDS)
def test_what_embeddings_are_made_from_changes_with_the_precision_alone(kind: str, names: dict[str, str]) -> None:
    first, again = opened(kind, names).made_from(), opened(kind, names).made_from()
    assert json.loads(json.dumps(first)) == again
    other = opened(kind, names, precision="bfloat16").made_from()
    assert {name for name in first if first[name] != other[name]} == {"precision"}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_computed_in_float32_unless_asked_otherwise(
    kind: str, names: dict[str, str], photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketclip.models.running.precision.has_fast_bfloat16", lambda: True)
    model = opened(kind, names, precision="auto")
    assert model.made_from()["precision"] == "bfloat16"
    exact = model.for_scores()
    assert exact.made_from()["precision"] == "float32"
    assert np.array_equal(exact.encode_image(photos), opened(kind, names).encode_image(photos))
    rough = opened(kind, names, precision="bfloat16").for_scores()
    assert rough.made_from()["precision"] == "bfloat16"


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_every_model_classifies(kind: str, names: dict[str, str], photos: list[Path]) -> None:
    model = opened(kind, names)
    (shares,) = model.classify(photos[0], ["scene", "picture"], template="a {}")
    logits = (
        (model.inverse_temperature or 1.0)
        * model.encode_image(photos[0])
        @ model.encode_text(["a scene", "a picture"]).T
    )
    expected = torch.from_numpy(logits)[0].softmax(dim=0)
    assert shares == pytest.approx({"scene": float(expected[0]), "picture": float(expected[1])}, rel=1e-4)


def test_a_model_judges_pairs_where_it_has_a_head_for_it() -> None:
    model = build_tiny_pretrained()
    assert model.judge_pairs is None
    config = model.config.model_copy(update={"pair_head": pair_head()})
    built = build_model(config, load_pretrained=False, vocabulary_size=model.tokenizer.vocabulary_size)
    judging = PretrainedModel(built, config, model.tokenizer, model.preprocess).to("cpu", precision="float32")
    assert judging.judge_pairs is not None
    rows = np.random.default_rng(0).normal(size=(2, 6, 16)).astype(np.float32)
    logits = judging.judge_pairs(rows[0], rows[1])
    assert built.pair_head is not None
    expected = built.pair_head.eval()(*torch.from_numpy(rows))
    np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-6)
    assert logits.shape == (3,)


def pair_head() -> Config:
    from pocketclip.models.joints import PairHeadConfig

    return PairHeadConfig(hidden_width=8)


# Cost


@pytest.mark.parametrize("kind", ["clip", "siglip", "open_clip", "st"])
def test_each_parameter_is_of_the_image_the_text_or_the_temperature(kind: str, names: dict[str, str]) -> None:
    model = opened(kind, names)
    assert isinstance(model, LibraryModel)
    counts = parameters_by_side(model)
    temperature = sum(value.numel() for name, value in model.module.named_parameters() if "logit_" in name)
    assert counts["parameters_image"] + counts["parameters_text"] + temperature == counts["parameters_total"]
    assert 0 < counts["parameters_text_embeddings"] < counts["parameters_text"]
    assert model.tokenizer is not None
    length = model.tokenizer.context_length
    assert min(tower_macs(model, image_size=model.preprocess.image_size, context_length=length).values()) > 0


def test_a_timm_model_costs_what_the_same_tower_of_ours_does(names: dict[str, str]) -> None:
    model = opened("timm", names)
    assert isinstance(model, LibraryModel)
    tower = TimmImageEncoderConfig(name="test_vit", pretrained="none", image_size=160).build()
    images = torch.zeros(1, 3, 160, 160, dtype=torch.uint8)
    macs = tower_macs(model, image_size=160, context_length=0)
    assert macs == {"macs_image": count_macs(lambda: tower.eval()(images))}
    assert parameters_by_side(model)["parameters_image"] == sum(value.numel() for value in tower.parameters())


# Names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "openclip:ViT-B-32/openai",
            r"Unknown library of models 'openclip'\. Did you mean 'open_clip'\?",
        ),
        ("open_clip:ViT-B32/openai", r"Unknown open_clip model 'ViT-B32'\. Did you mean 'ViT-B-32'\?"),
        ("open_clip:ViT-B-32", r"Model open_clip ViT-B-32: give pretrained a tag \(.*openai"),
        ("open_clip:ViT-B-32/opanai", r"'opanai'\. Did you mean 'openai'\?"),
        ("hf:nobody/nothing", r"Model huggingface nobody/nothing: cannot be loaded"),
        ("timm:test_vitt", r"Unknown timm image tower 'test_vitt'.*test_vit"),
        ("runs/nowhere/at:all", r"runs/nowhere/at:all: no such bundle or run folder"),
    ],
)
def test_what_cannot_be_had_is_named(name: str, message: str) -> None:
    if name.startswith("open_clip"):
        pytest.importorskip("open_clip")
    with pytest.raises(UserError, match=message):
        open_model(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_models_name_opens_it_again_from_any_folder(
    kind: str, names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(kind, names)
    assert isinstance(model, AskedModel)
    place = Path(names["bundle"]).parent
    monkeypatch.chdir(place)
    relative = names[kind].replace(f"{place}/", "")
    assert not relative.startswith("/")
    lasting = lasting_name(relative)
    monkeypatch.chdir(tmp_path)
    again = open_model(lasting, device="cpu", precision="float32")
    assert isinstance(again, AskedModel)
    assert again.fingerprint == model.fingerprint


def test_a_folder_with_a_colon_in_its_name_is_a_folder(names: dict[str, str], tmp_path: Path) -> None:
    Path(names["bundle"]).rename(tmp_path / "hf:mine")
    try:
        assert open_model(tmp_path / "hf:mine").embed_dim == 16
        assert open_model(str(tmp_path / "hf:mine")).embed_dim == 16
    finally:
        (tmp_path / "hf:mine").rename(names["bundle"])


def test_what_looks_into_towers_takes_our_own_models_only(names: dict[str, str]) -> None:
    data = TaskData(open_source("scenes:12,classes=size,image_size=32"))
    with pytest.raises(UserError, match=r"hf:.*: --task fine_tuning looks inside the towers of our own models"):
        FineTuning().run(open_model(names["clip"], device="cpu"), data)
    result = LinearProbe().run(open_model(names["clip"], device="cpu"), data)
    assert "top1_accuracy_embedding" in result.metrics
    assert "top1_accuracy" not in result.metrics
    assert "top1_accuracy" in LinearProbe().run(open_model(names["bundle"], device="cpu"), data).metrics
