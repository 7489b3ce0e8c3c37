"""A folder as people have them: the command names what is broken and trains on the rest."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import encode_picture, tiny_recipe_settings

BROKEN = ("cut.jpg", "empty.jpg", "notes.jpg", "bomb.png", "silent.jpg", "no_text.jpg")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.new("RGB", (32, 24), "red"), "JPEG", exif=exif)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Fourteen pictures that can be read and six that cannot be used."""
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = encode_picture(1, (200, 150))
    sixteen = Image.fromarray(np.arange(32 * 24, dtype=np.uint16).reshape(24, 32) * 80)
    pictures = {
        **{f"plain{number}.jpg": encode_picture(number) for number in range(9)},
        "cmyk.jpg": saved(Image.new("CMYK", (32, 24), (0, 255, 255, 0)), "JPEG"),
        "palette.png": saved(Image.new("RGB", (32, 24), "blue").quantize(4), "PNG"),
        "sixteen.png": saved(sixteen, "PNG"),
        "rotated.jpg": rotated(),
        "wordy.jpg": encode_picture(20),
        "cut.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "notes.jpg": b"this is not a picture",
        "bomb.png": saved(Image.new("1", (20_000, 20_000)), "PNG"),
        "silent.jpg": encode_picture(21),
        "no_text.jpg": encode_picture(22),
    }
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
        (folder / name).with_suffix(".txt").write_text(f"a picture called {Path(name).stem}\n")
    (folder / "wordy.txt").write_text("word " * 10_000)
    (folder / "silent.txt").write_text(" \n\n")
    (folder / "no_text.txt").unlink()
    return folder


@pytest.fixture
def recipe(tmp_path: Path, photos: Path) -> Path:
    settings = tiny_recipe_settings(num_steps=8)
    settings["data"] = {"train": f"folder:{photos}", "val": {"kind": "scenes", "count": 8, "image_size": 32}}
    path = tmp_path / "photos.yaml"
    path.write_text(json.dumps(settings))
    return path


def test_too_many_broken_pictures_stop_the_run_with_their_names(
    pocketclip: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    ended = pocketclip("train", recipe, "--out", tmp_path / "run", "--set", "data.max_broken_share=0")
    assert ended.code == 1
    assert ended.out == ""
    assert "allow more with --set data.max_broken_share=SHARE and --resume" in ended.err
    assert any(name in ended.err for name in BROKEN)
    assert "Traceback" not in ended.err
    command = ("train", recipe, "--out", tmp_path / "run", "--set", "data.max_broken_share=0.4", "--resume")
    assert pocketclip(*command).code == 0  # as the message says


def test_when_they_are_few_the_rest_is_trained_on_and_the_broken_are_on_record(
    pocketclip: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    ended = pocketclip("train", recipe, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    named = json.loads((tmp_path / "run" / "records" / "run.json").read_text())["broken_items"]
    assert len(named) == len(BROKEN)
    for name in BROKEN:
        assert sum(name in message for message in named) == 1, name
    assert "6 items were left out" in ended.err


def test_inspect_counts_them(pocketclip: Callable[..., Any], photos: Path) -> None:
    found = json.loads(pocketclip("data", "inspect", f"folder:{photos}", "--json").out)
    assert (found["num_items"], found["num_images"], found["num_without_caption"]) == (20, 16, 2)
    assert found["num_broken"] == 4


@pytest.mark.parametrize("cached", [True, False])
def test_what_is_left_out_of_any_part_is_named_once_by_its_file(
    pocketclip: Callable[..., Any], make_folder: Callable[..., Path], tmp_path: Path, cached: bool
) -> None:
    folder = make_folder(30)
    left_out = [f"{number:03d}.jpg" for number in range(0, 30, 4)]  # some are held out
    for name in left_out[:4]:
        (folder / name).write_bytes(b"")
    for name in left_out[4:]:
        (folder / name).with_suffix(".txt").unlink()
    settings = tiny_recipe_settings(num_steps=12, **({"cache": {}} if cached else {}))
    settings["data"] = {"train": f"folder:{folder}", "hold_out": 0.3}
    (tmp_path / "x.yaml").write_text(json.dumps(settings))
    ended = pocketclip("train", tmp_path / "x.yaml", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    named = json.loads((tmp_path / "run" / "records" / "run.json").read_text())["broken_items"]
    assert sorted(Path(message.split(":")[0]).name for message in named) == left_out
    assert all(ended.err.count(f"left out: {folder / name}: ") == 1 for name in left_out)
    assert f"{len(left_out)} items were left out" in ended.err
