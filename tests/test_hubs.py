"""Hubs held down: corrections against slow loops, and the bank's file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from pocketclip import hubs as module
from pocketclip.errors import UserError
from pocketclip.hubs import FILE, Csls, Hubs, LogSumExp, settings_of

Array = npt.NDArray[np.float32]


def unit_rows(count: int, width: int, seed: int) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make(settings: LogSumExp | Csls | None = None, captions: int = 40, images: int = 15, width: int = 8) -> Hubs:
    rows = unit_rows(captions, width, 1).astype(np.float16), unit_rows(images, width, 2).astype(np.float16)
    return Hubs(settings or LogSumExp(), *rows, np.arange(5), "folder:photos", "abc", 3)


def by_hand(things: Array, bank: npt.NDArray[np.float16], settings: LogSumExp | Csls) -> list[float]:
    taken = []
    for thing in things.tolist():
        cosines = [sum(a * b for a, b in zip(thing, other, strict=True)) for other in bank.astype(float).tolist()]
        if isinstance(settings, LogSumExp):
            total = sum(math.exp(settings.scale * cosine) for cosine in cosines)
            taken.append(math.log(total / len(cosines)) / settings.scale)
        else:
            nearest = sorted(cosines)[-settings.num_nearest :]
            taken.append(sum(nearest) / len(nearest) / 2)
    return taken


SETTINGS = [
    LogSumExp(),
    LogSumExp(scale=0.5),
    LogSumExp(scale=100),
    Csls(kind="csls"),
    Csls(kind="csls", num_nearest=1),
    Csls(kind="csls", num_nearest=1000),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("elements", [1, 100, 1 << 22])
def test_what_is_taken_equals_a_loop(
    settings: LogSumExp | Csls, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", elements)
    hubs, things = make(settings), unit_rows(7, 8, 0)
    for taken, bank in ((hubs.of_images(things), hubs.captions), (hubs.of_texts(things), hubs.images)):
        assert (taken.shape, taken.dtype) == ((7,), np.float32)
        np.testing.assert_allclose(taken, by_hand(things, bank, settings), atol=1e-6)
    assert hubs.of_images(things[:0]).shape == (0,)


@pytest.mark.parametrize("settings", [LogSumExp(), Csls(kind="csls")], ids=str)
def test_of_a_bank_of_one_its_cosine_is_taken(settings: LogSumExp | Csls) -> None:
    hubs, things = make(settings, captions=1, images=1), unit_rows(7, 8, 0)
    share = 1 if isinstance(settings, LogSumExp) else 0.5
    np.testing.assert_allclose(
        hubs.of_images(things), share * (things @ hubs.captions[0].astype(np.float32)), atol=1e-6
    )


def test_a_thing_near_to_all_loses_most_and_equal_things_alike() -> None:
    bank = unit_rows(100, 8, 0)
    hub = bank.mean(axis=0) / np.linalg.norm(bank.mean(axis=0))
    hubs = Hubs(LogSumExp(), bank.astype(np.float16), bank.astype(np.float16), np.zeros(0, np.int64), "x")
    taken = hubs.of_images(np.stack([hub, -hub, hub]))
    assert taken[0] > taken[1]
    assert taken[0] == pytest.approx(taken[2], abs=1e-6)


def test_a_large_scale_overflows_nothing() -> None:
    things = unit_rows(3, 8, 0)
    hubs = make(LogSumExp(scale=1e4))
    np.testing.assert_allclose(hubs.of_images(things), (things @ hubs.captions.T).max(axis=1), atol=1e-3)


def test_half_precision_changes_little() -> None:
    rows, things = unit_rows(500, 64, 0), unit_rows(50, 64, 1)
    whole = LogSumExp().nearness(things @ rows.T)
    half = Hubs(LogSumExp(), rows.astype(np.float16), rows.astype(np.float16), np.zeros(0, np.int64), "x")
    assert np.abs(half.of_images(things) - whole).max() < 1e-4


def test_a_bank_is_read_back(tmp_path: Path) -> None:
    assert Hubs.load(tmp_path, 8) is None
    hubs = make(Csls(kind="csls", num_nearest=3, num_captions=99))
    (tmp_path / FILE).write_bytes(hubs.to_bytes())
    again = Hubs.load(tmp_path, 8)
    assert again is not None
    assert again.captions.dtype == again.images.dtype == np.float16
    for name in ("captions", "images", "pictures"):
        assert np.array_equal(getattr(again, name), getattr(hubs, name))
    for name in ("settings", "source", "source_fingerprint", "seed", "digest", "told"):
        assert getattr(again, name) == getattr(hubs, name)
    assert hubs.told == "CSLS, 3 nearest, over 40 captions and 15 pictures of folder:photos"


def test_the_digest_follows_what_corrections_hang_on() -> None:
    digests = [make().digest, make(LogSumExp(scale=21)).digest, make(Csls(kind="csls")).digest, make(images=14).digest]
    assert len(set(digests)) == 4
    assert make(LogSumExp(num_captions=77)).digest == digests[0]  # as many were asked for, and as many are there


NAN = np.full((2, 8), np.nan, np.float16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"captions": unit_rows(3, 9, 0).astype(np.float16)}, "captions: of 9 numbers each, and the model's are of 8"),
        ({"images": NAN}, "images: not finite"),
        ({"images": np.ones((2, 8), np.float16)}, "images: not finite, or not of unit length"),
        ({"images": np.zeros((2, 8), np.float16)}, "not of unit length"),
        ({"images": unit_rows(3, 8, 0)}, "rows of float16, is float32"),
        ({"captions": np.zeros((0, 8), np.float16)}, r"is float16 \(0, 8\)"),
        ({"captions": np.zeros(8, np.float16)}, r"is float16 \(8,\)"),
        ({"pictures": np.zeros(3, np.float32)}, "pictures: other numbers"),
        ({"more": np.zeros(1, np.float32)}, "holds captions, images, more, pictures"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    place = tmp_path / FILE
    place.write_bytes(make().to_bytes())
    arrays = {**load_file(place), **change}
    text = LogSumExp().model_dump_json()
    metadata = {"hubs": f'{{"settings": {text}, "source": "x", "source_fingerprint": "", "seed": 0}}'}
    save_file(arrays, place, metadata=metadata)
    with pytest.raises(UserError, match=rf"hubs\.safetensors: no bank .*{reason}.*pocketclip hubs .* --data SOURCE"):
        Hubs.load(tmp_path, 8)


@pytest.mark.parametrize("text", ["", "{}", "[]", "nothing", '{"format_version": 2}', '{"settings": {"kind": "x"}}'])
def test_a_header_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    hubs = make()
    arrays = {"captions": hubs.captions, "images": hubs.images, "pictures": hubs.pictures}
    save_file(arrays, tmp_path / FILE, metadata={"hubs": text})
    with pytest.raises(UserError, match="its header"):
        Hubs.load(tmp_path, 8)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    (tmp_path / FILE).write_bytes(make().to_bytes()[:cut])
    with pytest.raises(UserError, match=r"hubs\.safetensors: no bank"):
        Hubs.load(tmp_path, 8)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FILE).write_bytes(make().to_bytes())
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="larger than"):
        Hubs.load(tmp_path, 8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, LogSumExp(num_captions=10_000, num_images=2_000, scale=10)),
        ({"scale": 30, "num_images": 5}, LogSumExp(scale=30, num_images=5)),
        ({"kind": "csls", "num_nearest": 3}, Csls(kind="csls", num_nearest=3)),
    ],
)
def test_settings_are_short(values: dict[str, Any], expected: LogSumExp | Csls) -> None:
    assert settings_of(values, place="x") == expected


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kind": "cslz"}, "kind 'cslz'. Did you mean 'csls'"),
        ({"scale": 0}, "x: scale: Input should be greater than 0"),
        ({"num_captions": 0}, "x: num_captions"),
        ({"num_images": 1 << 20}, "x: num_images"),
        ({"kind": "csls", "scale": 3}, "x: scale: unknown key 'scale'"),
        ({"captions": 3}, "Did you mean 'num_captions'"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as raised:
        settings_of(values, place="x")
    assert reason in str(raised.value)
