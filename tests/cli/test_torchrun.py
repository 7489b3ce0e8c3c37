"""`torchrun -m pocketclip train`, as users start it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
LINEAR = {"kind": "linear"}  # no dropout: ranks draw theirs apart


def torchrun(arguments: list[str], *, processes: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*command, "-m", "pocketclip", "train", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def train(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "pocketclip", "train", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def children_of(process: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if int(fields[1]) == process:
            found.append(int(stat.parent.name))
    return sorted(found)


def test_heads_on_cached_features_train_as_in_one_process(
    tmp_path: Path, tiny_recipe_file: Callable[..., Path]
) -> None:
    file = tiny_recipe_file(
        cache={"views": ["centre", "crop"]}, num_steps=20, log_every=1, batch_size=7, precision="float32"
    )
    settings = json.loads(file.read_text())
    settings["model"] = {**settings["model"], "image_head": LINEAR, "text_head": LINEAR}
    file.write_text(json.dumps(settings))
    train([str(file), "--out", str(tmp_path / "one")])
    process = torchrun([str(file), "--out", str(tmp_path / "two")])
    output, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert len(output.splitlines()) == 1, "only rank 0 reports"
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5, abs=1e-5)
    assert (tmp_path / "two" / "bundle" / "model.safetensors").is_file()
    scores = [json.loads((tmp_path / name / "records" / "retrieval_val.json").read_text()) for name in ("one", "two")]
    assert scores[0]["text_to_image_recall@1"] == scores[1]["text_to_image_recall@1"]


@pytest.mark.parametrize("told", [False, True], ids=["unasked", "told to stop"])  # torchrun tells those that are left
def test_a_rank_that_dies_ends_the_others_and_the_run_goes_on_with_one(
    tmp_path: Path, tiny_recipe_file: Callable[..., Path], told: bool
) -> None:
    file = tiny_recipe_file(num_steps=400, checkpoint_every=5, evaluate_every=None, num_workers=0)
    arguments = [str(file), "--out", str(tmp_path / "run")]
    process = torchrun(arguments)
    while not list((tmp_path / "run").glob("checkpoints/train/step-*.pt")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    ranks = children_of(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGSTOP)  # so that no step of both comes between
    if told:
        os.kill(ranks[0], signal.SIGTERM)
        time.sleep(0.2)
    os.kill(ranks[1], signal.SIGKILL)
    killed = time.monotonic()
    _, messages = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert process.returncode != 0
    assert "rank 0: Error: Rank 0 of 2: another rank ended before its time" in messages
    assert "--resume" in messages
    assert "Traceback" not in messages.partition("torch/distributed/elastic")[0]
    train([*arguments, "--resume"])
    assert (tmp_path / "run" / "bundle" / "model.safetensors").is_file()


def test_a_batch_that_is_smaller_than_the_world_is_refused_on_every_rank(
    tmp_path: Path, tiny_recipe_file: Callable[..., Path]
) -> None:
    process = torchrun([str(tiny_recipe_file(batch_size=2)), "--out", str(tmp_path / "run")], processes=3)
    _, messages = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Error: train.batch_size: 2 pairs cannot be shared by 3 processes" in messages
