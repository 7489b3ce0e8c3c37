"""Items of every kind of task: kept, read back, and known again in another order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.data.source import Source, Subset
from pocketclip.errors import UserError
from pocketclip.evaluate.items import Items, items_file, items_of, read_items, write_items
from pocketclip.evaluate.statistics import ratios
from pocketclip.evaluate.task import measure
from pocketclip.evaluate.tasks import TaskData, make_tasks
from pocketclip.records import Interval

SOURCE = "scenes:60,classes=size,image_size=32"
SOURCES = {
    "sugarcrepe": "scenes:40,texts=choices,image_size=32",
    "winoground": "scenes:40,twinned=true,texts=choices,image_size=32",
    "person_retrieval": "pedestrians:12,views=3",
}


def kept(model: PretrainedModel, source: Source, kind: str, **settings: Any) -> Items:
    data = TaskData(source, keeps_items=True)
    (task,) = make_tasks([kind], settings)
    return items_of(measure(task, model, data), data.items)


@pytest.mark.parametrize(
    "kind", ["retrieval", "person_retrieval", "zero_shot", "linear_probe", "sugarcrepe", "winoground"]
)
def test_units_give_the_scores_of_the_record_and_come_back_from_the_file(
    tiny_pretrained: PretrainedModel, tmp_path: Path, kind: str
) -> None:
    data = SOURCES.get(kind, SOURCE)
    items = kept(tiny_pretrained, open_source(data, place="x"), kind)
    again = read_items(write_items(tmp_path / "new" / items_file(items.record), items))
    assert again.record == items.record
    assert again.ids is not None
    assert np.array_equal(again.ids, items.ids)
    scores = ratios(again.units, again.task.means)
    assert scores
    for name, score in scores.items():
        measured = items.record.metrics[name]
        assert score == pytest.approx(measured.value if isinstance(measured, Interval) else measured)


@pytest.mark.parametrize("kind", ["retrieval", "zero_shot"])
def test_an_item_is_known_again_wherever_it_stands(tiny_pretrained: PretrainedModel, kind: str) -> None:
    source = open_source(SOURCE, place="x")
    order = np.random.default_rng(0).permutation(len(source))
    first, mixed = (kept(tiny_pretrained, own, kind) for own in (source, Subset(source, order, "mixed")))
    assert first.ids is not None
    assert mixed.ids is not None
    assert np.array_equal(first.ids[order], mixed.ids)
    assert len(set(first.ids.tolist())) == len(source)


def test_nothing_is_kept_unless_it_is_asked_for(tiny_pretrained: PretrainedModel) -> None:
    data = TaskData(open_source(SOURCE, place="x"))
    (task,) = make_tasks(["retrieval"], {})
    record = measure(task, tiny_pretrained, data)
    assert data.items is None
    assert record.model == tiny_pretrained.name
    with pytest.raises(UserError, match="--task retrieval: keeps nothing of single items"):
        items_of(record, data.items)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz: no file of kept items"):
        read_items(path)


def test_a_file_without_a_record_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", text_to_image=np.zeros(3))
    with pytest.raises(UserError, match="says of no item what it is; keep the items again with --keep-items"):
        read_items(tmp_path / "x.npz")
