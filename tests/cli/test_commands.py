"""The words of the command line, its exit codes, and where its output goes."""

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run, trained once for this file."""
    from conftest import QuietWatch, tiny_recipe_settings
    from pocketclip.recipe import Recipe
    from pocketclip.run.train import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = Recipe.parse(tiny_recipe_settings(), place="test")
    train(recipe, folder, name="tiny", watch=QuietWatch())
    return folder


def test_help_names_every_command_and_an_example(pocketclip: Run) -> None:
    ended = pocketclip("--help")
    assert ended.code == 0
    words = ("quickstart", "train", "evaluate", "cost", "data", "embed", "index", "search", "report", "list")
    for command in words:
        assert command in ended.out
        assert "pocketclip" in pocketclip(command, "--help").out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['pocketclip', 'train', '--help']\n"
        "from pocketclip.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'transformers', 'numpy', 'pydantic', 'PIL', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wrong_usage_is_2(pocketclip: Run) -> None:
    assert pocketclip("trian").code == 2
    assert pocketclip("train").code == 2
    assert pocketclip("search", "x", "-n", "0").code == 2


def test_what_the_user_can_fix_is_1_in_one_line(pocketclip: Run, tmp_path: Path) -> None:
    ended = pocketclip("train", "flikr/flickr8k_heads_cpu")
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.startswith(
        "Error: Unknown recipe 'flikr/flickr8k_heads_cpu'. Did you mean 'flickr/flickr8k_heads_cpu'?"
    )


def test_a_misspelt_key_names_file_key_and_value(pocketclip: Run, tiny_recipe_file: Callable[..., Path]) -> None:
    file = tiny_recipe_file(lerning_rate=3)
    ended = pocketclip("train", file)
    assert ended.code == 1
    assert ended.err.startswith(
        f"Error: {file}: train.lerning_rate: unknown key 'lerning_rate'. Did you mean 'learning_rate'?"
    )
    assert ended.err.count("\n") == 1


def test_every_problem_of_a_recipe_is_told_at_once(pocketclip: Run, tiny_recipe_file: Callable[..., Path]) -> None:
    ended = pocketclip("train", tiny_recipe_file(batch_size=1, num_epochs=-1), "--set", "seed=none_such")
    assert ended.code == 1
    for key in ("train.batch_size", "train.num_epochs", "seed"):
        assert f"{key}: " in ended.err


@pytest.mark.parametrize("change", ["train", "=3", "train.batch_size.x=3", "train.batch_size=[1"])
def test_malformed_changes_are_explained(pocketclip: Run, tiny_recipe_file: Callable[..., Path], change: str) -> None:
    ended = pocketclip("train", tiny_recipe_file(), "--set", change)
    assert ended.code == 1
    assert f"--set {change}" in ended.err


def test_dry_run_prints_the_resolved_recipe(pocketclip: Run, tiny_recipe_file: Callable[..., Path]) -> None:
    import yaml

    ended = pocketclip("train", tiny_recipe_file(), "--set", "train.num_steps=9", "--dry-run")
    values = yaml.safe_load(ended.out)
    assert values["train"]["num_steps"] == 9
    assert values["train"]["max_grad_norm"] == 1.0  # defaults are written out


def test_train_ends_with_json_on_stdout_and_notes_on_stderr(
    pocketclip: Run, tiny_recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    ended = pocketclip("train", tiny_recipe_file(), "--out", tmp_path / "run", "--json")
    assert ended.code == 0
    (line,) = ended.out.splitlines()
    values = json.loads(line)
    assert values["split"] == "val"
    assert set(values["text_to_image_recall@1"]) == {"value", "low", "high"}
    assert str(tmp_path / "run" / "bundle") in ended.err
    again = pocketclip("train", tiny_recipe_file(), "--out", tmp_path / "run")
    assert again.code == 1
    assert "--resume" in again.err
    resumed = pocketclip("train", tiny_recipe_file(), "--out", tmp_path / "run", "--resume", "--json")
    assert json.loads(resumed.out)["text_to_image_recall@1"] == values["text_to_image_recall@1"]


def test_evaluate_prints_one_json_line_a_task(pocketclip: Run, trained: Path) -> None:
    ended = pocketclip("evaluate", trained, "--task", "retrieval", "--data", "scenes:9,seed=4,image_size=32")
    (line,) = ended.out.splitlines()
    values = json.loads(line)
    assert (values["task"], values["num_images"], values["num_captions"]) == ("retrieval", 9, 18)
    assert 0 <= values["image_to_text_recall@10"]["value"] <= 1


def test_evaluate_names_an_unknown_task_before_loading(pocketclip: Run) -> None:
    ended = pocketclip("evaluate", "nowhere", "--task", "retrival", "--data", "scenes")
    assert ended.code == 1
    assert "Did you mean 'retrieval'?" in ended.err


@pytest.mark.slow
def test_cost_of_a_run_and_of_a_recipe(pocketclip: Run, trained: Path, tiny_recipe_file: Callable[..., Path]) -> None:
    ended = pocketclip("cost", trained, "--seconds", "0.01", "--hourly-dollars", "0.5", "--json")
    values = json.loads(ended.out)
    for key in ("parameters_image", "parameters_text", "macs_image", "macs_text", "latency_ms_p50", "bundle_mib"):
        assert values[key] > 0, key
    expected = 1e6 / values["throughput_image_per_second"] / 3600 * 0.5
    assert values["dollars_per_million_images"] == pytest.approx(expected, abs=1e-4)
    recipe = pocketclip("cost", tiny_recipe_file(), "--seconds", "0.01", "--json")
    assert json.loads(recipe.out)["macs_image"] == values["macs_image"]


def test_embed_writes_arrays(pocketclip: Run, trained: Path, tmp_path: Path) -> None:
    ended = pocketclip("embed", "scenes:5,image_size=32", "--model", trained, "--out", tmp_path / "out")
    assert ended.code == 0
    images, texts = np.load(tmp_path / "out" / "images.npy"), np.load(tmp_path / "out" / "texts.npy")
    assert (images.shape, texts.shape) == ((5, 16), (10, 16))
    assert np.load(tmp_path / "out" / "text_images.npy").tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert items[4]["key"] == "scene-000004"


def test_index_and_search_a_plain_folder(
    pocketclip: Run, trained: Path, tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder(6)
    assert pocketclip("index", folder, "--model", trained, "--out", tmp_path / "index").code == 0
    ended = pocketclip("search", "a red circle", "--index", tmp_path / "index", "-n", "4", "--json")
    hits = [json.loads(line) for line in ended.out.splitlines()]
    assert len(hits) == 4
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert all(Path(hit["place"]).is_file() for hit in hits)

    import pocketclip as package

    model = package.load(str(trained))
    scores = model.encode_image([hit["place"] for hit in hits]) @ model.encode_text("a red circle")[0]
    assert np.allclose(scores, [hit["score"] for hit in hits], atol=5e-3)


def test_search_without_an_index_says_how_to_make_one(pocketclip: Run, tmp_path: Path) -> None:
    ended = pocketclip("search", "x", "--index", tmp_path)
    assert ended.code == 1
    assert "pocketclip index FOLDER --model MODEL" in ended.err


def test_inspect_counts_and_draws_a_sheet(pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(5)
    (folder / "002.jpg").write_bytes(b"")
    (folder / "004.jpg").write_bytes((folder / "003.jpg").read_bytes())
    ended = pocketclip("data", "inspect", folder, "--sheet", tmp_path / "sheet.png", "--json")
    values = json.loads(ended.out)
    assert (values["num_items"], values["num_images"], values["num_broken"], values["num_same_images"]) == (5, 4, 1, 1)
    assert Image.open(tmp_path / "sheet.png").size[0] > 500


def test_convert_then_read_back(pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(5)
    out = tmp_path / "shards"
    ended = pocketclip("data", "convert", f"folder:{folder}", "--out", out, "--samples-per-shard", "2")
    assert ended.code == 0
    place = f"webdataset:{out}/data-{{000000..000002}}.tar"
    assert place in ended.err
    values = json.loads(pocketclip("data", "inspect", place, "--json").out)
    assert (values["num_images"], values["num_captions"]) == (5, 10)


def test_convert_stops_above_the_share_of_broken_items(
    pocketclip: Run, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_folder(5)
    (folder / "002.jpg").write_bytes(b"junk")
    command = ("data", "convert", f"folder:{folder}", "--out", tmp_path / "shards")
    ended = pocketclip(*command, "--max-broken-share", "0")
    assert ended.code == 1
    assert "--max-broken-share" in ended.err
    assert "002.jpg" in ended.err
    ended = pocketclip(*command)
    assert ended.code == 0
    assert "1 item was left out." in ended.err


def test_report_of_one_run_and_of_two(
    pocketclip: Run, trained: Path, tiny_recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    assert pocketclip("train", tiny_recipe_file(), "--out", tmp_path / "other").code == 0
    one = pocketclip("report", tmp_path / "other").out.strip()
    text = Path(one).read_text()
    assert "text → image" in text
    assert "data:image/jpeg;base64," in text
    assert "http://" not in text.replace("http://www.w3.org", "")  # nothing is fetched; SVG names its schema
    both = pocketclip("report", trained, tmp_path / "other", "--out", tmp_path / "both.html").out.strip()
    assert "Side by side" in Path(both).read_text()


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("recipes", "flickr/flickr8k_heads_cpu"),
        ("sources", "webdataset:SHARDS"),
        ("losses", "multi_positive"),
        ("losses", "interactive"),
        ("tasks", "retrieval"),
        ("towers", "tf_efficientnet_lite0"),
        ("towers", "image  clip_resnet              A ResNet with a stem of three convolutions"),
        ("towers", "text   clip                     A transformer of CLIP's make"),
        ("towers", "text   huggingface              A transformers model"),
    ],
)
def test_list(pocketclip: Run, what: str, word: str) -> None:
    assert word in pocketclip("list", what).out


def test_list_of_something_unknown(pocketclip: Run) -> None:
    ended = pocketclip("list", "loses")
    assert (ended.code, "Did you mean 'losses'?" in ended.err) == (1, True)


def test_ctrl_c_ends_in_one_line(
    pocketclip: Run, tiny_recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import os
    import signal

    import pocketclip.train.loop as loop

    original = loop.train_step

    def pressed(*arguments: object, **settings: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", pressed)
    file = tiny_recipe_file()
    ended = pocketclip("train", file, "--out", tmp_path / "run")
    assert ended.code == 130
    assert "train: stopped at step 1 of 4. Nothing is lost; go on with the same command and --resume." in ended.err
    monkeypatch.setattr(loop, "train_step", original)
    assert pocketclip("train", file, "--out", tmp_path / "run", "--resume").code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--version"], importlib.metadata.version("pocketclip")),
        (["-h"], "POCKETCLIP_CACHE"),
        (["help"], "Commands:"),
        (["help", "data", "mix"], "--join-captions"),
        (["data", "mix", "-h"], "--join-captions"),
    ],
)
def test_what_may_be_asked_before_anything_else(words: list[str], expected: str) -> None:
    told = subprocess.run([sys.executable, "-m", "pocketclip", *words], capture_output=True, text=True, check=True)
    assert expected in told.stdout
    assert told.stderr == ""
