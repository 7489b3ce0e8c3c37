"""The bundle folder: written whole or not at all, and clear about what is wrong with it."""

import errno
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import safetensors.numpy

from pocketclip import bundle as module
from pocketclip.bundle import FILES, BundleConfig, find_bundle, read_bundle, write_bundle
from pocketclip.errors import UserError
from pocketclip.preprocess import PreprocessConfig
from pocketclip.tokenizer import train_tokenizer

CONFIG = BundleConfig(embed_dim=4, context_length=7, model={"anything": [1, 2]})
PREPROCESS = PreprocessConfig(image_size=32, resize="squash", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
WEIGHTS = {"scale": np.array(2.5, np.float32), "matrix": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a small bundle."""

    def make(name: str = "bundle", card: str = "# A card\n", value: float = 2.5) -> Path:
        return write_bundle(
            tmp_path / name,
            config=CONFIG,
            weights={**WEIGHTS, "scale": np.array(value, np.float32)},
            tokenizer=train_tokenizer(["a red circle"], vocabulary_size=50, context_length=7),
            preprocess=PREPROCESS,
            card=card,
        )

    return make


def test_what_was_written_is_read_back(write: Callable[..., Path]) -> None:
    folder = write()
    bundle = read_bundle(folder)
    assert bundle.config == CONFIG
    assert bundle.preprocess == PREPROCESS
    assert bundle.tokenizer.context_length == 7
    expected = train_tokenizer(["a red circle"], vocabulary_size=50, context_length=7).encode(["red circle"])[0]
    assert np.array_equal(bundle.tokenizer.encode(["red circle"])[0], expected)
    assert (folder / "README.md").read_text() == "# A card\n"


def test_weights_keep_their_values_and_shapes(write: Callable[..., Path]) -> None:
    weights = safetensors.numpy.load_file(read_bundle(write()).weights)
    assert {name: value.shape for name, value in weights.items()} == {"scale": (), "matrix": (2, 3)}
    assert all(np.array_equal(weights[name], value) for name, value in WEIGHTS.items())


def test_weights_may_be_views_of_other_arrays(tmp_path: Path) -> None:
    whole = np.arange(6, dtype=np.float32).reshape(2, 3)
    folder = write_bundle(
        tmp_path / "bundle",
        config=CONFIG,
        weights={"turned": whole.T, "column": whole[:, 1], "same": whole},
        tokenizer=train_tokenizer(["a"], vocabulary_size=50, context_length=7),
        preprocess=PREPROCESS,
        card="",
    )
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    assert np.array_equal(weights["turned"], whole.T)
    assert np.array_equal(weights["column"], whole[:, 1])


def test_a_bundle_holds_the_five_files_and_no_pickle(write: Callable[..., Path]) -> None:
    files = sorted(path.name for path in write().iterdir())
    assert files == sorted(FILES)
    assert not any(name.endswith((".pkl", ".pt", ".pth", ".bin")) for name in files)


def test_other_users_may_read_a_bundle(write: Callable[..., Path]) -> None:
    folder = write()
    assert folder.stat().st_mode & 0o055 == 0o055
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir())


def test_reading_needs_no_torch(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert read_bundle(write()).config.embed_dim == 4


def test_a_run_folder_stands_for_the_bundle_inside(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = write("run/bundle")
    assert find_bundle(tmp_path / "run") == folder
    assert find_bundle(str(folder)) == folder


@pytest.mark.parametrize("name", FILES[:4])
def test_a_missing_file_is_named(name: str, write: Callable[..., Path]) -> None:
    folder = write()
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing|no config\.json"):
        read_bundle(folder)


def test_a_missing_card_is_no_error(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "README.md").unlink()
    assert read_bundle(folder).config == CONFIG


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b"[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_garbled_file_is_named(name: str, content: bytes, write: Callable[..., Path]) -> None:
    folder = write()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: not valid JSON"):
        read_bundle(folder)


@pytest.mark.parametrize("content", [b"{}", b"\xff", b"[]"])
def test_a_garbled_tokenizer_is_named(content: bytes, write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_json_that_is_no_object_is_an_error(name: str, write: Callable[..., Path]) -> None:
    folder = write()
    (folder / name).write_text("[1, 2]")
    with pytest.raises(UserError, match=rf"{name}: should hold one JSON object"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_a_file_too_large_to_be_ours_is_refused_unread(
    name: str, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write()
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    monkeypatch.setattr(module, "MAX_JSON_BYTES", max(sizes[other] for other in FILES if other.endswith(".json")))
    with (folder / name).open("ab") as file:
        file.truncate(module.MAX_JSON_BYTES + 1)
    with pytest.raises(UserError, match=rf"{name}: larger than"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", 2, r"format_version: Input should be 1 \(got 2\)"),
        ("model_type", "clip", r"model_type: Input should be 'pocketclip' \(got 'clip'\)"),
        ("embed_dim", -1, r"embed_dim: .*\(got -1\)"),
        ("colour", "red", r"colour: unknown key"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(
    key: str, value: object, message: str, write: Callable[..., Path]
) -> None:
    path = write() / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError, match=rf"config\.json: {message}"):
        read_bundle(path.parent)


def test_a_folder_without_a_bundle_asks_whether_training_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no bundle here .* Did training finish\?"):
        find_bundle(tmp_path)


@pytest.mark.parametrize("place", ["./no/such", "/no/such", "no-such-folder", "a/b/c"])
def test_a_path_that_is_not_there_is_not_asked_from_the_hub(place: str) -> None:
    with pytest.raises(UserError, match=f"{place}: no such bundle or run folder"):
        find_bundle(place)


def test_a_hub_name_without_a_network_is_an_error_that_says_so() -> None:
    with pytest.raises(UserError, match=r"owner/name: not a folder here, and the hub did not answer"):
        find_bundle("owner/name")


def test_a_hub_name_is_fetched_with_our_files_only(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = write(), []

    def snapshot_download(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(folder)

    hub = ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert read_bundle("owner/name").config == CONFIG
    assert asked == [("owner/name", [*FILES, "trained_on.npy", "hubs.safetensors"])]


def test_a_newer_bundle_replaces_the_older_one(write: Callable[..., Path], tmp_path: Path) -> None:
    write(card="old")
    (tmp_path / "bundle" / "stray.txt").write_text("x")
    folder = write(card="new")
    assert (folder / "README.md").read_text() == "new"
    assert not (folder / "stray.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]  # nothing is left beside it


def test_a_folder_with_other_files_is_not_touched(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files; choose an empty folder"):
        write()
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_taken(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    assert read_bundle(write()).config == CONFIG


class SafetensorError(Exception):
    """Named as the one of the library, which is no OSError."""


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, SafetensorError("I/O error: No space left on device")], ids=["os", "library"])
def test_a_full_disk_leaves_the_old_bundle_as_it_was(
    error: Exception, write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(card="old", value=1.5)

    def fail(arrays: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(UserError, match=r"Cannot write .*bundle: .*No space left on device.*free some space"):
        write(card="new")
    assert (folder / "README.md").read_text() == "old"
    assert safetensors.numpy.load_file(folder / "model.safetensors")["scale"] == 1.5
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_failure_at_the_last_moment_puts_the_old_bundle_back(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, replace = write(card="old"), Path.replace

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if self.name.startswith(".bundle.") and ".old-" not in self.name:
            raise FULL
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_the_new_one)
    with pytest.raises(UserError, match="Cannot write"):
        write(card="new")
    assert (folder / "README.md").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_place_that_cannot_be_a_folder_is_an_error(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="Cannot write"):
        write("file/bundle")


def test_a_bundle_can_be_moved(write: Callable[..., Path], tmp_path: Path) -> None:
    shutil.move(write(), tmp_path / "elsewhere")
    assert read_bundle(tmp_path / "elsewhere").config == CONFIG
