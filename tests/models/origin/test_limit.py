"""Configs that ask for absurd sizes end in a line that names the key, before anything large is made."""

import json
import math
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pocketclip
from conftest import tiny_model_settings
from pocketclip.asked.bundle import PretrainedModel
from pocketclip.errors import UserError
from pocketclip.models.build import build_model, start_from_bundle
from pocketclip.models.config import DualEncoderConfig
from pocketclip.models.origin import limit
from pocketclip.models.origin.limit import stored_shapes, within_file, within_memory

BILLION = 1_000_000_000


@pytest.fixture
def bundle(tiny_pretrained: PretrainedModel, tmp_path: Path) -> Path:
    return tiny_pretrained.save_pretrained(tmp_path / "bundle", card="# Tiny\n")


@pytest.fixture(autouse=True)
def little_time_and_memory() -> Iterator[None]:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert time.monotonic() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10  # KiB; libraries are among them


def change(bundle: Path, name: str, key: str, value: Any) -> None:
    path = bundle / name
    values = part = json.loads(path.read_text())
    *parents, last = key.split(".")
    for parent in parents:
        part = part.setdefault(parent, {})
    part[last] = value
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("value", [BILLION, 10**30, 50_000_000])
@pytest.mark.parametrize(
    "key",
    [
        "embed_dim",
        "text_encoder.architecture.vocab_size",
        "text_encoder.architecture.hidden_size",
        "text_encoder.architecture.intermediate_size",
        "text_encoder.architecture.num_hidden_layers",
        "text_encoder.architecture.max_position_embeddings",
        "text_encoder.architecture.num_attention_heads",
        "text_encoder.context_length",
    ],
)
def test_a_number_beyond_all_of_the_weights_is_named_with_both_sizes(key: str, value: int, bundle: Path) -> None:
    change(bundle, "config.json", f"model.{key}", value)
    with pytest.raises(UserError) as caught:
        pocketclip.load(bundle)
    total = sum(map(math.prod, stored_shapes(bundle / "model.safetensors").values()))
    message = str(caught.value)
    assert message.startswith(f"{bundle / 'config.json'}: model.{key}: {value:,} is more than all the {total:,} values")
    assert str(bundle / "model.safetensors") in message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"text_encoder.architecture.num_hidden_layers": 100_000}, "num_hidden_layers: 100,000"),
        ({"embed_dim": 3_000_000}, "embed_dim: 3,000,000"),
        ({"text_encoder.architecture.vocab_size": 3_000_000}, "vocab_size: 3,000,000"),
        (
            {"text_encoder.architecture.hidden_size": 32768, "text_encoder.architecture.intermediate_size": 1_000_000},
            "hidden_size: 32,768",
        ),
    ],
)
def test_numbers_that_are_absurd_together_stop_the_building(changes: dict[str, int], named: str, bundle: Path) -> None:
    for key, value in changes.items():
        change(bundle, "config.json", f"model.{key}", value)
    for load in (pocketclip.load, lambda place: PretrainedModel.from_pretrained(place, text_only=True)):
        with pytest.raises(UserError, match=named.replace(".", r"\.")) as caught:
            load(bundle)
        assert str(caught.value).startswith(f"{bundle / 'config.json'}: model.")
        assert str(bundle / "model.safetensors") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "model.image_encoder.image_size", BILLION),
        ("config.json", "context_length", BILLION),
        ("preprocessor_config.json", "crop_size.height", BILLION),
        ("preprocessor_config.json", "size.shortest_edge", BILLION),
    ],
)
def test_sizes_of_inputs_are_limited_too(name: str, key: str, value: int, bundle: Path) -> None:
    change(bundle, name, key, value)
    if key == "context_length":
        change(bundle, name, f"model.text_encoder.{key}", value)
    elif key == "size.shortest_edge":
        change(bundle, name, "size", {"shortest_edge": value})
    with pytest.raises(UserError, match=name):
        pocketclip.load(bundle)


def test_training_on_from_such_a_bundle_is_refused_too(bundle: Path) -> None:
    settings = json.loads((bundle / "config.json").read_text())["model"]
    change(bundle, "config.json", "model.text_encoder.architecture.vocab_size", BILLION)
    settings = {**settings, "bundle": str(bundle)}
    for part in ("image_encoder", "text_encoder"):
        settings[part] = {**settings[part], "pretrained": "none"}
    with pytest.raises(UserError, match=r"architecture\.vocab_size: 1,000,000,000"):
        start_from_bundle(DualEncoderConfig.parse(settings, place="test"), str(bundle))


def test_what_was_saved_fits_its_own_file_and_no_hook_stays(bundle: Path) -> None:
    settings = json.loads((bundle / "config.json").read_text())["model"]
    loaded = pocketclip.load(bundle)
    with within_file(settings, bundle / "model.safetensors", place="here"):
        nn.Linear(4, 4)
    nn.Linear(10_000, 1_000)
    assert stored_shapes(bundle / "model.safetensors") == {
        name: tuple(value.shape) for name, value in loaded.model.state_dict().items()
    }


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00[]", b"\x08" + b"\x00" * 7])
def test_a_damaged_file_of_weights_is_a_user_error(damage: bytes, bundle: Path) -> None:
    (bundle / "model.safetensors").write_bytes(damage)
    with pytest.raises(UserError, match=r"model\.safetensors: cannot read weights"):
        pocketclip.load(bundle)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("embed_dim", BILLION * 1000),
        ("embed_dim", 10**30),
        ("text_encoder.architecture.vocab_size", BILLION * 10),
        ("text_encoder.architecture.num_hidden_layers", BILLION),
        ("text_encoder.architecture.max_position_embeddings", BILLION * 10),
    ],
)
def test_a_recipe_that_asks_for_more_than_the_machine_is_refused(
    key: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "MAX_TENSORS", 2000)  # a second in the place of a minute
    settings = part = json.loads(json.dumps(tiny_model_settings()))
    *parents, last = key.split(".")
    for parent in parents:
        part = part.setdefault(parent, {})
    part[last] = value
    with pytest.raises(UserError, match=rf"model\.{key}: {value:,}"):
        build_model(DualEncoderConfig.parse(settings, place="test"), load_pretrained=False)


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"), within_memory({"embed_dim": BILLION}):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(UserError, match="no such tower"), within_memory({"embed_dim": BILLION}):
        raise UserError("no such tower")


def test_shapes_alone_need_no_memory() -> None:
    with torch.device("meta"), within_memory({"width": BILLION}):
        assert nn.Linear(10**6, 10**6).weight.is_meta
