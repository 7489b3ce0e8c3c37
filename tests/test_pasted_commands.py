"""Every command of the pages and helps is pasted, as it stands, into a folder that has what the pages speak of.

What cannot be had here is named with its reason; what would take hours is the same command with a smaller number.
Commands that the output of a command hints at are pasted, too.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pocketclip.data import Source, open_source

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALLER = [
    (r"^pip install [^&]*&& ", ""),  # the environment of the tests has all that it would install
    (r"^uv (sync|tool) [^&]*&& ", ""),
    (r"^source [^&]*&& ", ""),
    (r"uv run (--(extra|group) \S+ )*", ""),
    (r"\{00000\.\.\d+\}", "{00000..00001}"),
    (r" --ray-address auto", ""),  # that is a cluster which somebody started
    (r"--nproc-per-node 8", "--nproc-per-node 2"),
    (r"\bRECIPE\b", "quickstart/your_photos"),
    (r"folder:PHOTOS", "folder:photos"),
    (r"--image dog\.jpg", "--image photos/00.jpg"),
    (r"my/grid\.study\.yaml --out /shared/grid", "my_ladder.study.yaml --out runs/grid"),
    (r"^(pocketclip study study/small_encoders.*)", r"\1 --set seconds=0.1 --set training_steps=1"),
    (r"^(pocketclip study study/small_encoders (?!.*only=).*)", r"\1 --set only=[EfficientNet-Lite0]"),
    (r"--budget \d+min", "--budget 2min"),
    (r"budget\.minutes=20", "budget.seconds=40"),
    (r"budget\.dollars=0\.05", "budget.dollars=0.0011"),  # forty seconds at ten cents an hour
    (r"^(pocketclip train (flickr|mobileclip)/.*)", r"\1 --set train.num_epochs=1 --set train.batch_size=16"),
    (r"^(pocketclip train flickr/flickr8k_(best|finetune).*)", r"\1 --set heads_first.batch_size=16"),
    (r"^(pocketclip study flickr/flickr8k_pairs.*)", r"\1 --set axes.pairs.values=[16,40] --set seeds=[0]"),
    (r"^(pocketclip study flickr/flickr8k_towers.*)", r"\1 --set axes.size.values=[64,96] --set seeds=[0]"),
    (r"^(pocketclip study flickr/flickr8k_(pairs|towers).*)", r"\1 --set train.batch_size=16"),
    (r"^(pocketclip train flickr/flickr8k_(8m|taught|two_towers).*)", r"\1 --set early_stages.text.num_epochs=1"),
    (r"^(pocketclip train flickr/flickr8k_(8m|taught|two_towers).*)", r"\1 --set early_stages.text.batch_size=16"),
    (r"^(pocketclip plan flickr/flickr8k_heads.*)", r"\1 --set train.batch_size=16"),
    (r"^(pocketclip plan .* --measure)", r"\1 --set heads_first.batch_size=16 --set train.batch_size=16"),
    (r"^(pocketclip train s_smke/.*)", r"\1 --set train.num_steps=4 --set train.batch_size=16"),
    (r"^(pocketclip study (mobileclip|s_smke)/.*)", r"\1 --set seeds=[0] --set train.batch_size=16"),
    (r"^(pocketclip train person_search/.*)", r"\1 --set data.train=pedestrians:20 --set train.num_steps=4"),
    (r"^(pocketclip study person_search/.*)", r"\1 --set seeds=[0] --set data.train=pedestrians:20"),
    (r"^(pocketclip study person_search/.*)", r"\1 --set train.num_steps=4"),
    (r"^(pocketclip study mobileclip/.*)", r"\1 --set train.num_epochs=1"),
    (r"^(pocketclip study s_smke/.*)", r"\1 --set train.num_steps=4"),
]
NOT_HERE = {
    r"^(uv |pip |source |\.venv)": "what is installed is what these tests run in",
    r"benchmarks/": "takes minutes to hours, and is kept in results/ with its command",
    r"^pytest": "these are the tests",
    r"/datacompdr|hf:|hub:": "weights or data on a hub",
    r"--nnodes|srun|scontrol": "several machines",
    r"train s_smke/nlvr2|runs/nlvr2": "NLVR2's pictures",
    r"protocol=|--suite datacomp|data (sugarcrepe|winoground|winogavil|aro):|wds_": "published data sets",
    r"study flickr/flickr8k_(ladder|text_ways|whole_pairs)": "rows need hundreds of photos, these tests have fifty",
    r"study flickr/flickr8k_(steps|small)": "whole trainings, whose recipes are typed one by one",
    r"cuhk_|rstp_reid": "pictures that researchers are given who ask for them",
}


TEACHERS = [
    "pocketclip train mobileclip/flickr8k_teacher_cpu --out runs/teacher_lite2 --set train.batch_size=16",
    "pocketclip train mobileclip/flickr8k_teacher_cpu --set model.image_encoder.name=tf_efficientnet_lite1 "
    "--out runs/teacher_lite1 --set train.batch_size=16",
    "pocketclip reinforce mobileclip/reinforce_flickr8k",
]
ITEMS = [f"pocketclip evaluate runs/{name} --data folder:photos --keep-items items/{name}" for name in ("a", "b")]
BEFORE = {
    "studies.md": TEACHERS,
    "cli.md": ITEMS,
    "measures.md": [*ITEMS, "pocketclip evaluate runs/mine --data folder:photos --json > results/mine.json"],
}
"""What a page says was done before, or shows the like of; s_smke/flickr8k_ladder names the commands of its teachers."""
PROGRAMS = ("pocketclip", "torchrun", "uv", "pip", "cp", "source", "python", "srun")


def commands_of(text: str) -> list[str]:
    """Commands in the blocks of a page, fenced or indented, each whole and without its comment."""
    whole = re.sub(r"\\\n\s*", " ", text)
    found = []
    for line in whole.splitlines():
        command = re.sub(r"\s{2,}#.*", "", line).strip().removeprefix("$ ")
        is_indented = line.startswith("  ") and not line.lstrip().startswith("#")
        if re.match(rf"({'|'.join(PROGRAMS)}) (?!=)", command) and (is_indented or _in_fence(whole, line)):
            found.append(command)
    return found


def _in_fence(text: str, line: str) -> bool:
    return text[: text.index(line)].count("```") % 2 == 1


def mentions_of(text: str) -> list[str]:
    """Commands in running text that are whole: more than a command's name, and no placeholder."""
    found = [" ".join(words.split()) for words in re.findall(r"`(pocketclip [^`]+)`", text)]
    names = re.compile(r"pocketclip ((data|demo) )?[a-z]+( --[a-z-]+)?")
    return [command for command in found if not names.fullmatch(command) and not re.search(r"[A-Z]{3}|\.\.\.", command)]


def smaller(command: str) -> str:
    """The same in seconds."""
    for pattern, instead in SMALLER:
        command = re.sub(pattern, instead, command)
    return command


def reason_against(command: str) -> str | None:
    """Why a command cannot be run here."""
    return next((reason for pattern, reason in NOT_HERE.items() if re.search(pattern, command)), None)


def hints_of(output: str) -> list[str]:
    """Commands that an output tells to type, to the end of their lines."""
    found = [hint.strip().rstrip(".`)") for hint in re.findall(r"(?<![`/\w])pocketclip [a-z]+ [^\n`]+", output)]
    return [smaller(hint) for hint in found]


@pytest.fixture(scope="session")
def whole_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the pages name: pictures, tables, classes, shards, and a trained run."""
    world = tmp_path_factory.mktemp("world")
    drawn = open_source("scenes:60,image_size=64")
    write_pictures(world / "photos", drawn, range(40))
    for name in ("more_photos", "scraped"):
        write_pictures(world / name, drawn, range(40, 60))
    classes = open_source("scenes:96,image_size=64,classes=colour,num_colours=2")
    for name, rows in (("train", range(80)), ("test", range(80, 96))):
        for index in rows:
            place = world / name / str(classes.label(index))
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{index}.jpg").write_bytes(classes[index].image)
    shutil.copytree(world / "train", world / "pets")
    for name, rows in (("pairs.csv", range(10)), ("ours.csv", range(20, 30))):
        with (world / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", "caption"])
            table.writerows([f"{index:02d}.jpg", caption] for index in rows for caption in drawn.captions(index))
        for index in rows:
            shutil.copy(world / "photos" / f"{index:02d}.jpg", world)
    pictures = sorted(path.relative_to(world) for path in (world / "test").glob("*/*.jpg"))
    colours = {"0": "red", "1": "green"}
    cells = [(str(path), colours[path.parent.name], ("north", "south")[row % 2]) for row, path in enumerate(pictures)]
    (world / "test.csv").write_text("image,class,region\n" + "".join(f"{','.join(row)}\n" for row in cells))
    for name in ("train.tsv", "test.tsv"):
        lines = [f"{'good' if row % 2 else 'bad'} film number {row}\t{row % 2}" for row in range(24)]
        (world / name).write_text("sentence\tlabel\n" + "\n".join(lines) + "\n")
    write_shards(world)
    write_rows(world / "metadata")
    (world / "my_ladder.study.yaml").write_text(
        "base: quickstart/your_photos\nrows:\n  - {name: plain}\n  - {name: narrow, set: {model.embed_dim: 64}}\n"
        "seeds: [0, 1]\n"
    )
    run("pocketclip train quickstart/your_photos --set data.train=folder:photos --out runs/mine", world)
    for name in ("theirs", "a", "b", "a/seed-0", "a/seed-1", "b/seed-0", "b/seed-1"):
        shutil.copytree(world / "runs" / "mine", world / "runs" / name)
    return world


def write_pictures(folder: Path, source: Source, rows: range) -> None:
    """Pictures with their captions beside them."""
    folder.mkdir()
    for index in rows:
        (folder / f"{index:02d}.jpg").write_bytes(source[index].image)
        (folder / f"{index:02d}.txt").write_text("\n".join(source.captions(index)) + "\n")


def write_shards(world: Path) -> None:
    """Flickr8k's shards, those of web data sets, tars of classes, and COCO and Flickr30k by Karpathy's files."""
    data = world / "prepared" / "flickr8k"
    for source, name in (("scenes:48,seed=1", "flickr8k-train"), ("scenes:16,seed=2", "flickr8k-val")):
        convert(f"{source},image_size=64", data, name, world)
    for seed, name in enumerate(("raw", "cc3m", "cc12m"), start=3):
        convert(f"scenes:32,seed={seed},image_size=64", world / name, name, world)
        for number in range(2):
            (world / name / f"{name}-00000{number}.tar").rename(world / name / f"0000{number}.tar")
    for name in ("train", "test"):
        convert(f"folder:{name},classes=folders", world / "classes", name, world, samples=100)
        shutil.copy(world / "classes" / f"{name}-000000.tar", world / f"clothing-small-{name}-000000.tar")
        (world / "classes" / f"{name}-000000.tar").rename(world / f"{name}.tar")
    write_pictures(world / "Flicker8k_Dataset", drawn := open_source("scenes:30,seed=6,image_size=64"), range(30))
    tokens = [f"{row:02d}.jpg#{k}\t{text}" for row in range(30) for k, text in enumerate(drawn.captions(row))]
    (world / "Flickr8k.token.txt").write_text("\n".join(tokens) + "\n")
    for name, rows in (("train", range(20)), ("dev", range(20, 30))):
        (world / f"Flickr_8k.{name}Images.txt").write_text("".join(f"{row:02d}.jpg\n" for row in rows))
    for seed, (name, folder) in enumerate((("coco", "coco"), ("flickr30k", "flickr30k")), start=7):
        drawn, images = open_source(f"scenes:12,seed={seed},image_size=64"), []
        (world / folder).mkdir()
        for index in range(len(drawn)):
            (world / folder / f"{index}.jpg").write_bytes(drawn[index].image)
            sentences = [{"raw": caption} for caption in drawn.captions(index)]
            split = ("train", "restval", "test")[index % 3]
            images.append({"filename": f"{index}.jpg", "imgid": index, "split": split, "sentences": sentences})
        (world / f"dataset_{name}.json").write_text(json.dumps({"images": images, "dataset": name}))
    shutil.copytree(world / "coco", world / "coco" / "images")
    shutil.copy(world / "dataset_coco.json", world / "coco")
    (world / "results").mkdir()


def write_rows(folder: Path) -> None:
    """Rows as DataComp's metadata have them."""
    folder.mkdir()
    columns: dict[str, list[object]] = {"uid": [f"{row:032x}" for row in range(50)], "text": ["a dog in the snow"] * 50}
    columns |= {f"original_{side}": [300] * 50 for side in ("width", "height")}
    columns |= {f"clip_{model}_similarity_score": [row / 100 for row in range(50)] for model in ("l14", "b32")}
    pq.write_table(pa.table(columns), folder / "0.parquet")


def convert(source: str, out: Path, name: str, world: Path, samples: int = 16) -> None:
    """Shards of a source."""
    run(f"pocketclip data convert {source} --out {out} --name {name} --samples-per-shard {samples}", world)


def run(command: str, world: Path) -> str:
    """Type a command in a folder; returns its notes."""
    if made := re.search(r"pocketclip (?:train|fit) .*--out (runs/\w+)", command):
        shutil.rmtree(world / made[1], ignore_errors=True)  # the page says how to make what other pages begin with
    paths = {"POCKETCLIP_DATA": str(world / "prepared"), "POCKETCLIP_CACHE": str(world / "cache")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=world,
        env={**os.environ, **paths, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}\nended with {done.returncode}:\n{done.stdout[-500:]}{done.stderr[-2500:]}"
    return done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_can_be_pasted(page: Path, whole_world: Path, tmp_path: Path) -> None:
    text = page.read_text()
    commands = [smaller(command) for command in dict.fromkeys([*commands_of(text), *mentions_of(text)])]
    world = tmp_path / "world"
    shutil.copytree(whole_world, world)
    done = set[str]()
    for command in [*BEFORE.get(page.name, ()), *commands]:
        if command in done or reason_against(command) is not None:
            continue
        done.add(command)
        for hint in hints_of(run(command, world)):
            if hint not in done and reason_against(hint) is None:
                done.add(hint)
                run(hint, world)


def test_what_is_not_run_stands_on_a_page() -> None:
    commands = [smaller(command) for page in PAGES for command in commands_of(page.read_text())]
    for pattern in NOT_HERE:
        assert any(re.search(pattern, command) for command in commands), f"{pattern} excuses nothing"
    assert len([command for command in commands if reason_against(command) is None]) > 40
