"""What `pocketclip.load` returns: unit vectors from anything, and bundles that give the same ones again."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

import pocketclip
from conftest import encode_picture, tiny_model_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.errors import UserError
from pocketclip.models.build import build_model
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.running.precision import round_to_half
from pocketclip.preprocess import open_image
from pocketclip.tokenizer import train_tokenizer

SENTENCES = ["a red circle", "small", "a large blue star and a small red square", "a blue circle"]


def assert_unit(rows: np.ndarray, count: int) -> None:
    assert rows.shape == (count, 16)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def load(place: Path, **options: bool) -> PretrainedModel:
    return PretrainedModel.from_pretrained(place, **options).to("cpu", precision="float32")


@pytest.fixture
def bundle(tiny_pretrained: PretrainedModel, tmp_path: Path) -> Path:
    return tiny_pretrained.save_pretrained(tmp_path / "bundle", card="# Tiny\n")


def test_pictures_come_as_paths_names_bytes_or_pillow_images(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    data = encode_picture(3)
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    rows = tiny_pretrained.encode_image([path, str(path), data, open_image(data)])
    assert_unit(rows, 4)
    np.testing.assert_allclose(rows, rows[:1].repeat(4, axis=0), atol=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK"])
def test_pillow_images_of_every_mode_are_taken(mode: str, tiny_pretrained: PretrainedModel) -> None:
    assert_unit(tiny_pretrained.encode_image(Image.new(mode, (50, 40))), 1)


def test_one_picture_or_sentence_is_a_list_of_one(tiny_pretrained: PretrainedModel) -> None:
    data = encode_picture()
    assert np.array_equal(tiny_pretrained.encode_image(data), tiny_pretrained.encode_image([data]))
    assert np.array_equal(tiny_pretrained.encode_text("a star"), tiny_pretrained.encode_text(["a star"]))


def test_nothing_gives_no_rows(tiny_pretrained: PretrainedModel) -> None:
    assert_unit(tiny_pretrained.encode_image([]), 0)
    assert_unit(tiny_pretrained.encode_text([]), 0)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_batch_size_changes_no_row(batch_size: int, tiny_pretrained: PretrainedModel) -> None:
    pictures = [encode_picture(number) for number in range(5)]
    images = tiny_pretrained.encode_image(pictures)
    texts = tiny_pretrained.encode_text(SENTENCES)
    assert_unit(images, 5)
    assert_unit(texts, 4)
    np.testing.assert_allclose(tiny_pretrained.encode_image(pictures, batch_size=batch_size), images, atol=1e-5)
    np.testing.assert_allclose(tiny_pretrained.encode_text(SENTENCES, batch_size=batch_size), texts, atol=1e-5)


def test_sentences_keep_their_order_whatever_their_length(tiny_pretrained: PretrainedModel) -> None:
    alone = np.concatenate([tiny_pretrained.encode_text(sentence) for sentence in SENTENCES])
    np.testing.assert_allclose(tiny_pretrained.encode_text(SENTENCES), alone, atol=1e-5)
    assert np.linalg.norm(alone[0] - alone[3]) > 1e-3


def test_an_empty_and_an_endless_sentence_are_vectors(tiny_pretrained: PretrainedModel) -> None:
    rows = tiny_pretrained.encode_text(["", "red circle " * 5000, "red circle " * 6000])
    assert_unit(rows, 3)
    assert np.array_equal(rows[1], rows[2])  # cut at the context length


def test_a_missing_or_broken_picture_is_named(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jpg: cannot read the picture"):
        tiny_pretrained.encode_image([encode_picture(), tmp_path / "none.jpg"])
    with pytest.raises(UserError, match=r"picture in memory\): not a picture"):
        tiny_pretrained.encode_image(b"not a picture")


def test_classes_are_a_softmax_over_the_temperature(tiny_pretrained: PretrainedModel) -> None:
    pictures, names = [encode_picture(1), encode_picture(2)], ["star", "circle", "square"]
    found = tiny_pretrained.classify(pictures, names, template="a red {}")
    images = tiny_pretrained.encode_image(pictures)
    texts = tiny_pretrained.encode_text(["a red star", "a red circle", "a red square"])
    for shares, image in zip(found, images, strict=True):
        powers = [math.exp(float(image @ text) / 0.07) for text in texts]
        expected = {name: power / sum(powers) for name, power in zip(names, powers, strict=True)}
        assert shares == pytest.approx(expected, rel=1e-4)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert list(shares) == sorted(names, key=lambda name: -shares[name])


@pytest.mark.filterwarnings("error")
def test_classifying_warns_of_nothing(tiny_pretrained: PretrainedModel) -> None:
    torch.set_warn_always(True)  # torch warns once a process
    try:
        tiny_pretrained.classify(encode_picture(), ["star"])
    finally:
        torch.set_warn_always(False)


def test_braces_in_a_class_name_are_only_letters(tiny_pretrained: PretrainedModel) -> None:
    (shares,) = tiny_pretrained.classify(encode_picture(), ["{0}", "{x"], template="a {} {y}")
    assert set(shares) == {"{0}", "{x"}


@pytest.mark.parametrize(
    ("names", "template", "message"),
    [
        ([], "{}", "class_names is empty"),
        (["dog", "cat", "dog"], "{}", r"class_names should differ \(got \['dog', 'cat', 'dog'\]\)"),
        (["dog"], "a photo", r"template should hold \{\} for the class name \(got 'a photo'\)"),
    ],
)
def test_classes_that_mean_nothing_are_errors(
    names: list[str], template: str, message: str, tiny_pretrained: PretrainedModel
) -> None:
    with pytest.raises(UserError, match=f"classify: {message}"):
        tiny_pretrained.classify(encode_picture(), names, template=template)


def test_a_loaded_bundle_gives_equal_embeddings(tiny_pretrained: PretrainedModel, bundle: Path) -> None:
    loaded = load(bundle)
    pictures = [encode_picture(number) for number in range(3)]
    assert np.array_equal(loaded.encode_image(pictures), tiny_pretrained.encode_image(pictures))
    assert np.array_equal(loaded.encode_text(SENTENCES), tiny_pretrained.encode_text(SENTENCES))
    assert loaded.classify(pictures, ["a", "b"]) == tiny_pretrained.classify(pictures, ["a", "b"])
    assert (loaded.card, loaded.preprocess) == ("# Tiny\n", tiny_pretrained.preprocess)


def test_saving_what_was_loaded_gives_the_same_files(bundle: Path, tmp_path: Path) -> None:
    again = load(bundle).save_pretrained(tmp_path / "again")
    for path in bundle.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_load_finds_the_bundle_of_a_run(bundle: Path, tiny_pretrained: PretrainedModel) -> None:
    loaded = pocketclip.load(str(bundle.parent)).to("cpu", precision="float32")
    assert np.array_equal(loaded.encode_text("a star"), tiny_pretrained.encode_text("a star"))


@pytest.mark.parametrize(
    "changes",
    [
        {"learn_temperature": False, "temperature": 1.0},
        {"logit_bias": -3.0},
        {"image_encoder": {"joined_stages": [0, -1], "frozen_layers": 2, "pretrained": "/gone/weights.pth"}},
        {"image_encoder": {"crop_fraction": 0.9, "normalization": "imagenet"}},
        {"text_encoder": {"joined_layers": [0], "frozen_layers": 2, "pooling": "eot", "pretrained": "/gone/folder"}},
        {"image_encoder": {"name": "test_vit", "pooling": "average"}},
        {"image_head": {"kind": "residual_mlp", "input_norm": True, "input_dropout": 0.2}},
    ],
    ids=str,
)
def test_every_kind_of_model_survives_a_bundle(changes: dict[str, object], tmp_path: Path) -> None:
    """Weights and folders that training started from are not needed any more."""
    settings = tiny_model_settings()
    for key, value in changes.items():
        settings[key] = {**settings[key], **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
    settings["text_encoder"]["architecture"] = {  # type: ignore[index]
        "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64,
    }  # fmt: skip
    tokenizer = train_tokenizer(SENTENCES, vocabulary_size=60, context_length=16)
    torch.manual_seed(1)
    config = DualEncoderConfig.parse(settings, place="model")
    model = build_model(config, load_pretrained=False, vocabulary_size=tokenizer.vocabulary_size)
    saved = PretrainedModel(model, config, tokenizer, model.image_encoder.preprocess).to("cpu", precision="float32")
    loaded = load(saved.save_pretrained(tmp_path / "bundle"))
    assert np.array_equal(loaded.encode_image(encode_picture()), saved.encode_image(encode_picture()))
    assert np.array_equal(loaded.encode_text(SENTENCES), saved.encode_text(SENTENCES))
    assert float(loaded.model.logit_scale.detach()) == float(model.logit_scale.detach())
    assert float(loaded.model.logit_bias) == float(model.logit_bias)


def test_the_text_side_alone_encodes_queries(bundle: Path, tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    text_only = load(bundle, text_only=True)
    assert np.array_equal(text_only.encode_text(SENTENCES), tiny_pretrained.encode_text(SENTENCES))
    assert not [name for name in text_only.model.state_dict() if name.startswith("image_")]
    for use in (
        lambda: text_only.encode_image(encode_picture()),
        lambda: text_only.classify(encode_picture(), ["a"]),
        lambda: text_only.save_pretrained(tmp_path / "half"),
    ):
        with pytest.raises(UserError, match=r"loaded with text_only=True and has no image tower; load it without"):
            use()
    assert not (tmp_path / "half").exists()


def change_config(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


def test_a_bundle_without_its_weights_is_incomplete(bundle: Path) -> None:
    (bundle / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: missing; the bundle is incomplete"):
        load(bundle)


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"x" * 100])
def test_damaged_weights_are_named(content: bytes, bundle: Path) -> None:
    (bundle / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: cannot read weights from this file"):
        load(bundle)


def test_weights_of_another_model_are_refused(bundle: Path) -> None:
    weights = load_file(bundle / "model.safetensors")
    weights["text_head.norm.weight"] = np.ones(5, np.float32)
    save_file(weights, bundle / "model.safetensors")
    with pytest.raises(UserError, match=r"wrong shapes: text_head\.norm\.weight \(5,\) instead of \(16,\)"):
        load(bundle)
    del weights["text_head.norm.weight"]
    save_file(weights, bundle / "model.safetensors")
    with pytest.raises(UserError, match=r"the file lacks text_head\.norm\.weight"):
        load(bundle)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_encoder", {"kind": "timm", "name": "test_resnet", "colour": 1}, r"image_encoder\.colour: unknown key"),
        ("temperature", -1, r"temperature: .*\(got -1\)"),
        ("embed_dim", None, r"embed_dim: .*\(got None\)"),
        ("image_encoder", {"kind": "timm", "name": "test_resnt"}, r"Did you mean 'test_resnet'\?"),
    ],
)
def test_a_wrong_setting_of_the_model_names_file_and_key(key: str, value: object, message: str, bundle: Path) -> None:
    change_config(bundle, lambda values: values["model"].update({key: value}))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=message) as caught:
        load(bundle)
    assert "Unknown timm" in str(caught.value) or str(caught.value).startswith(f"{bundle / 'config.json'}: model: ")


def test_a_model_can_be_saved_over_an_older_one_only(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        tiny_pretrained.save_pretrained(tmp_path)


def test_a_hub_that_refuses_is_a_users_error(tiny_pretrained: PretrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = ModuleType("huggingface_hub")

    def create_repo(name: str, *, private: bool, exist_ok: bool) -> None:
        raise ConnectionError("401 Unauthorized")

    hub.create_repo = create_repo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(UserError, match=r"me/mine: the hub did not take the bundle \(401 Unauth.*hf auth login"):
        tiny_pretrained.push_to_hub("me/mine")


def test_what_is_pushed_is_the_whole_bundle(
    tiny_pretrained: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = ModuleType("huggingface_hub")
    made = []

    def upload_folder(*, repo_id: str, folder_path: Path) -> str:
        Path(folder_path).rename(tmp_path / "uploaded")
        return f"https://hub/{repo_id}/commit/1"

    hub.create_repo = lambda name, private, exist_ok: made.append((name, private))  # type: ignore[attr-defined]
    hub.upload_folder = upload_folder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert tiny_pretrained.push_to_hub("me/mine", private=True) == "https://hub/me/mine/commit/1"
    assert made == [("me/mine", True)]
    assert np.array_equal(load(tmp_path / "uploaded").encode_text("a"), tiny_pretrained.encode_text("a"))


def test_a_bundle_in_half_precision_is_half_as_large_and_stays_so(
    tiny_pretrained: PretrainedModel, bundle: Path, tmp_path: Path
) -> None:
    round_to_half(tiny_pretrained.model)
    tiny_pretrained.in_half_precision = True
    half = tiny_pretrained.save_pretrained(tmp_path / "half", card="")
    small, whole = ((place / "model.safetensors").stat().st_size for place in (half, bundle))
    assert small < 0.6 * whole
    before, after = tiny_pretrained.encode_text(SENTENCES), load(half).encode_text(SENTENCES)
    np.testing.assert_array_equal(after, before)  # of rounded weights nothing is lost
    again = load(half).save_pretrained(tmp_path / "again")
    assert (again / "model.safetensors").stat().st_size == small
    assert not load(bundle).in_half_precision
