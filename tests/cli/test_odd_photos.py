"""A photo on which a library fails in a way that nobody listed is one broken item, with its file's name, everywhere."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import build_tiny_pretrained, encode_picture, tiny_recipe_settings
from pocketclip.data.left_out import LeftOut

Run = Callable[..., Any]


class StrangeError(Exception):
    """Of a library that we know nothing of."""


ODD = (61, 47)
"""Size of the picture on which it is raised."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_tiny_pretrained().save_pretrained(folder, card="x")
    return folder


@pytest.fixture(params=[StrangeError("odd"), MemoryError(), KeyError(274), AssertionError()], ids=repr)
def photos(request: pytest.FixtureRequest, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_folder(12)
    (folder / "005.jpg").write_bytes(encode_picture(5, ODD, "PNG"))  # Pillow decodes it in each of the commands
    really = Image.Image.convert

    def convert(image: Image.Image, *words: Any, **settings: Any) -> Image.Image:
        if image.size == ODD:
            raise request.param
        return really(image, *words, **settings)

    monkeypatch.setattr(Image.Image, "convert", convert)
    return folder


COMMANDS = {
    "inspect": ["data", "inspect", "SOURCE"],
    "embed": ["embed", "SOURCE", "--model", "MODEL", "--out", "OUT"],
    "index": ["index", "SOURCE", "--model", "MODEL", "--out", "OUT"],
    "convert": ["data", "convert", "SOURCE", "--out", "OUT"],
    "filter": ["data", "filter", "SOURCE", "--out", "OUT", "--min-image-side", "2"],
    "filter by a model": ["data", "filter", "SOURCE", "--out", "OUT", "--keep-share", "0.9", "--model", "MODEL"],
    "mix": ["data", "mix", "SOURCE", "--out", "OUT"],
    "evaluate": ["evaluate", "MODEL", "--data", "SOURCE"],
    "demo": ["demo", "retrieval", "MODEL", "--data", "SOURCE", "--out", "OUT/page.html"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_named_and_the_work_goes_on(
    pocketclip: Run, photos: Path, bundle: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "out").mkdir()
    places = {"SOURCE": f"folder:{photos}", "MODEL": str(bundle)}
    words = [places.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in COMMANDS[command]]
    ended = pocketclip(*words)
    assert ended.code == 0, ended.err
    assert "005.jpg: cannot decode the picture" in ended.out + ended.err
    if command != "inspect":
        assert ended.err.count("1 item was left out.") == 1


@pytest.mark.slow
@pytest.mark.parametrize("cached", [True, False])
def test_training_names_it_and_goes_on(pocketclip: Run, photos: Path, tmp_path: Path, cached: bool) -> None:
    settings = tiny_recipe_settings(num_steps=6, **({"cache": {}} if cached else {}))
    settings["data"] = {"train": f"folder:{photos}", "val": {"kind": "scenes", "count": 8, "image_size": 32}}
    (tmp_path / "x.yaml").write_text(json.dumps(settings))
    ended = pocketclip("train", tmp_path / "x.yaml", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    (message,) = json.loads((tmp_path / "run" / "records" / "run.json").read_text())["broken_items"]
    assert message.startswith(str(photos / "005.jpg"))


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "inspect"])
def test_what_the_source_left_out_is_told_once(
    pocketclip: Run,
    make_folder: Callable[..., Path],
    bundle: Path,
    tmp_path: Path,
    leave_out: Callable[[LeftOut], None],
    command: str,
) -> None:
    folder = make_folder(5)
    leave_out(LeftOut(".heic files passed over", 2, ("a.heic", "b.heic")))
    (tmp_path / "out").mkdir()
    places = {"SOURCE": f"folder:{folder}", "MODEL": str(bundle)}
    words = [places.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in COMMANDS[command]]
    ended = pocketclip(*words)
    line = f"folder:{folder}: 2 .heic files passed over (a.heic, b.heic)"
    assert ended.err.count(line) == 1
    if command == "evaluate":
        assert [note for note in json.loads(ended.out)["notes"] if ".heic" in note] == [line]


def test_training_tells_it_of_each_source_once_and_keeps_it(
    pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path, leave_out: Callable[[LeftOut], None]
) -> None:
    leave_out(LeftOut(".heic files passed over", 1))
    settings = tiny_recipe_settings(num_steps=2)
    source, test = f"folder:{make_folder(12)}", f"folder:{make_folder(4, name='test')}"
    settings["data"] = {"train": source, "hold_out": 0.3, "test": test, "allow_overlap": True}
    (tmp_path / "x.yaml").write_text(json.dumps(settings))
    ended = pocketclip("train", tmp_path / "x.yaml", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    wanted = [f"{name}: 1 .heic files passed over" for name in (source, test)]
    assert [ended.err.count(line) for line in wanted] == [1, 1]
    assert json.loads((tmp_path / "run" / "records" / "run.json").read_text())["left_out"] == wanted
