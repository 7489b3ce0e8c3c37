"""What lists, plans and checks needs no torch: each is run where torch and its kin cannot be imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pocketclip.cli.list import LISTS
from pocketclip.errors import EXTRAS, pip_install
from pocketclip.shipped_recipes import list_recipes, list_studies

BLOCKED = [module for modules in EXTRAS.values() for module in modules]
CODE = f"""
import sys
sys.modules.update(dict.fromkeys({BLOCKED}))
from pocketclip.cli.main import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["pocketclip", *line.split()]
    try:
        main()
    except SystemExit as end:
        print("exit code", end.code or 0)
"""


def run(*lines: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE]
    return subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, check=False, cwd=folder, timeout=300
    )


def test_every_list_answers(tmp_path: Path) -> None:
    done = run(*(f"list {what}" for what in LISTS), folder=tmp_path)
    assert done.stdout.count("exit code 0") == len(LISTS), done.stderr
    for listed in ("retrieval_1k_folds", "mobileclip_s0", "sigmoid", "webdataset:", "laptop-cpu-2", list_studies()[0]):
        assert listed in done.stdout


def test_every_recipe_is_read_and_written_out(tmp_path: Path) -> None:
    trained = [name for name in list_recipes() if "reinforce_" not in name]
    done = run(*(f"train {name} --dry-run" for name in trained), folder=tmp_path)
    assert done.stdout.count("exit code 0") == len(trained), done.stderr


def test_a_mistake_in_a_recipe_is_named(tmp_path: Path) -> None:
    done = run("train quickstart/openmoji --dry-run --set train.lr=1", folder=tmp_path)
    assert "exit code 1" in done.stdout
    assert "train.lr: unknown key" in done.stderr


def test_a_plan_is_made_of_what_is_given(tmp_path: Path) -> None:
    done = run(
        "plan flickr/flickr8k_heads_cpu --hardware laptop-cpu-2 --throughput 100 --samples 6000 --json",
        folder=tmp_path,
    )
    plan = json.loads(done.stdout.splitlines()[0])
    assert plan["hours"] == pytest.approx(plan["samples_seen"] / 100 / 3600)
    assert plan["storage_bytes"]["checkpoints"] is None
    assert "pip install 'pocketclip[train]'" in plan["notes"][0]


@pytest.mark.parametrize(
    "line",
    [
        "train quickstart/openmoji --out run",
        "quickstart --out run",
        "cost mobileclip_s0",
        "plan flickr/flickr8k_heads_cpu --hardware this --measure --samples 6000",
        f"study {list_studies()[0]} --out study",
        "evaluate open_clip:ViT-B-32/openai --data scenes",
        "hubs run --data scenes",
        "embed scenes --model open_clip:ViT-B-32/openai --out out",
        "reinforce mobileclip/reinforce_flickr8k --out out",
    ],
)
def test_what_needs_more_names_what_to_install(line: str, tmp_path: Path) -> None:
    done = run(line, folder=tmp_path)
    assert "exit code 1" in done.stdout, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    (told,) = [told for told in done.stderr.splitlines() if told.startswith("Error")]
    assert f"Install it with: {pip_install('')}" in told
