"""What a user installs: the wheel in environments of its own, where every command works or names what to install.

Three environments are made. The base install, and the small extras (study, parquet, hub, heic), come from the package
index. The extras that bring torch are too large for that: their environment has the wheel, and borrows everything else
from the one that runs the tests; there `train` alone is what is left when the modules of all other extras are blocked.
Not covered: that pip finds torch and its kin (CI's own installation does), `energy`, `cluster` and `tensorboard` alone.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from conftest import encode_picture
from pocketclip.cli.list import LISTS
from pocketclip.errors import EXTRAS
from pocketclip.shipped_recipes import list_recipes, list_studies

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
WORKS = ""
TRAIN = "pip install 'pocketclip[train]'"
BASE = {
    "--version": WORKS,
    "--help": WORKS,
    **{f"list {what}": WORKS for what in LISTS},
    "train quickstart/your_photos --set data.train=folder:photos --dry-run": WORKS,
    "train quickstart/your_photos --set data.train=folder:photos --out run": TRAIN,
    "fit folder:photos --budget 20min --dry-run": TRAIN,
    "fit folder:photos --budget 20": "of which unit?",
    "plan flickr/flickr8k_heads_cpu --hardware laptop-cpu-2 --throughput 100 --samples 6000": WORKS,
    "plan flickr/flickr8k_heads_cpu --measure --samples 6000": TRAIN,
    "quickstart --out quick": "pip install 'pocketclip[quickstart]'",
    "evaluate hf:openai/clip-vit-base-patch32 --data folder:photos": TRAIN,
    "evaluate timm:resnet18 --data folder:photos": TRAIN,
    "evaluate open_clip:ViT-B-32/openai --data folder:photos": TRAIN,
    "compare timm:resnet18 timm:resnet34 --data folder:photos": TRAIN,
    "compare --items here there": "here: no such file or folder of kept items",
    "board nowhere": "nowhere: no such folder or file of results",
    "cost mobileclip_s0": TRAIN,
    "reinforce mobileclip/reinforce_flickr8k --out reinforced": TRAIN,
    f"study {list_studies()[0]} --out study": TRAIN,
    "embed folder:photos --model timm:resnet18 --out embedded": TRAIN,
    "hubs run --data folder:photos": TRAIN,
    "index folder:photos --model timm:resnet18 --out index": TRAIN,
    "search boat --index nowhere": "Make one: pocketclip index",
    "report nowhere": "nowhere: no such run folder",
    "demo retrieval timm:resnet18 --data folder:photos": "pip install 'pocketclip[study]'",
    "data inspect folder:photos": WORKS,
    "data inspect scenes:20": WORKS,
    "data convert folder:photos --out shards": WORKS,
    "data filter folder:photos --out filtered --min-caption-words 2": WORKS,
    "data filter folder:photos --out similar --model timm:resnet18 --keep-share 0.5": TRAIN,
    "data mix folder:photos --out mixed": WORKS,
    "data features quickstart/your_photos --set data.train=folder:photos": TRAIN,
    "data inspect parquet:pairs.parquet": "pip install 'pocketclip[parquet]'",
    "data inspect hub:somebody/something": "pip install 'pocketclip[hub]'",
    "data inspect openmoji": "pip install 'pocketclip[quickstart]'",
    "data convert folder:photos --out far --engine ray": "No such option: --engine",
    "data filter folder:photos --out far --min-caption-words 2 --engine ray": "pip install 'pocketclip[cluster]'",
}


def uv(*words: object) -> None:
    done = subprocess.run(["uv", *map(str, words)], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode and re.search(r"(?i)network|connect|dns|resolve host|timed out|fetch", done.stderr):
        pytest.skip(f"the package index cannot be reached ({done.stderr.strip().splitlines()[-1]})")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, and the wheel that was built from it."""
    if shutil.which("uv") is None:
        pytest.skip("uv, which builds the wheel and makes environments, is not installed")
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--out-dir", folder, ROOT)
    return folder


def install(folder: Path, *requirements: object) -> Path:
    """A new environment; returns its pocketclip command."""
    uv("venv", "--python", sys.executable, folder)
    uv("pip", "install", "--python", folder / "bin" / "python", *requirements)
    return folder / "bin" / "pocketclip"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("base"), wheel)


@pytest.fixture(scope="module")
def borrowing(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel beside everything that is installed here, of which our own package is not: it comes first."""
    folder = tmp_path_factory.mktemp("borrowing")
    command = install(folder, "--no-deps", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run, with photos of which each has its sentence."""
    (tmp_path / "photos").mkdir()
    for number in range(12):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(encode_picture(number, (80, 64)))
        (tmp_path / "photos" / f"{number}.txt").write_text(f"a red boat of number {number}\n")
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def run(command: Path, line: str, folder: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """A command as it is typed; with `code`, by a Python that runs this first."""
    start = f"{code}\nfrom pocketclip.cli.main import main\nmain()"
    words = [command.with_name("python"), "-c", start] if code else [command]
    environment = {**os.environ, "POCKETCLIP_DATA": str(folder)}
    return subprocess.run(
        [*words, *line.split()], capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=600
    )


def holds(done: subprocess.CompletedProcess[str], expected: str) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    if expected == WORKS:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode in (1, 2), done.stdout
        assert expected in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) == 1


@pytest.mark.parametrize(("line", "expected"), BASE.items())
def test_in_the_base_install_every_command_works_or_names_what_to_install(
    line: str, expected: str, base: Path, folder: Path
) -> None:
    holds(run(base, line, folder), expected)


def test_no_command_is_left_out_of_the_walk(base: Path, folder: Path) -> None:
    def commands(line: str) -> list[str]:
        listed = run(base, f"{line} --help", folder).stdout.partition("Commands:")[2]
        return [f"{line} {name}".strip() for name in re.findall(r"^  (\w+)  ", listed, re.MULTILINE)]

    all_of_them = {*commands(""), *commands("data"), *commands("demo")} - {"data", "demo"}
    assert len(all_of_them) > 15
    assert {name for name in all_of_them if not any(line.startswith(name) for line in BASE)} == set()


def test_a_python_user_is_told_too(base: Path, folder: Path) -> None:
    lines = "import pocketclip", "print(pocketclip.__version__)", "pocketclip.load_recipe('quickstart/openmoji')"
    command = [base.with_name("python"), "-c", "\n".join([*lines, "pocketclip.load('x')"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert done.stdout.strip() == version == run(base, "--version", folder).stdout.strip()
    assert done.stderr.splitlines()[-1].startswith("pocketclip.errors.UserError: This needs 'torch'")


@pytest.fixture(scope="module")
def small(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("small"), f"{wheel}[study,parquet,hub,heic]")


def test_small_extras_bring_what_they_are_for(small: Path, folder: Path) -> None:
    holds(run(small, "data inspect parquet:pairs.parquet", folder), "pairs.parquet")
    holds(run(small, "report nowhere", folder), "nowhere: no such run folder")
    holds(run(small, "demo retrieval timm:resnet18 --data folder:photos", folder), TRAIN)
    holds(run(small, "data inspect openmoji", folder), "pip install 'pocketclip[quickstart]'")


def test_train_alone_trains_and_says_what_reports_need(borrowing: Path, folder: Path) -> None:
    others = [module for extra, modules in EXTRAS.items() if extra != "train" for module in modules]
    alone = f"import sys; sys.modules.update(dict.fromkeys({others}))"
    model = "--set model.image_encoder.name=test_vit --set model.image_encoder.image_size=160 "
    line = (
        "train quickstart/your_photos --set data.train=folder:photos --out run --set train.num_epochs=1 "
        "--set model.image_encoder.pretrained=none --set model.text_encoder.pretrained=none "
        "--set model.text_encoder.tokenizer=captions "
    )
    holds(run(borrowing, line + model.strip(), folder, alone), WORKS)
    holds(run(borrowing, "index folder:photos --model run --out index", folder, alone), WORKS)
    holds(run(borrowing, "search boat --index index -n 3", folder, alone), WORKS)
    holds(run(borrowing, "evaluate run --data folder:photos", folder, alone), WORKS)
    holds(run(borrowing, "embed folder:photos --model run --out embedded", folder, alone), WORKS)
    holds(run(borrowing, "cost run --seconds 0", folder, alone), WORKS)
    holds(run(borrowing, "report run", folder, alone), "pip install 'pocketclip[study]'")
    holds(run(borrowing, "report run", folder), WORKS)
    holds(run(borrowing, "demo retrieval run --data folder:photos", folder), WORKS)


def test_the_wheel_has_all_that_is_read_and_nothing_else(wheel: Path, dist: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in list_recipes():
        assert f"pocketclip/recipes/{name}.yaml" in names
    for shipped in ("py.typed", "cost/hardware.json", "cost/sizes.json", "models/sizes/mobileclip_s0.json"):
        assert f"pocketclip/{shipped}" in names
    assert any(name.startswith("pocketclip/results/") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pocketclip"}
    (archive,) = dist.glob("*.tar.gz")
    assert archive.stat().st_size < 5 << 20
