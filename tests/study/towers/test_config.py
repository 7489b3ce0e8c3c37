"""Studies of towers as files: what they may say, and what each mistake is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from pocketclip.errors import UserError
from pocketclip.study.towers.config import TowerStudyConfig, dump_settings, load_tower_study, names_towers

TINY = {"plain": {"name": "test_resnet", "image_size": 64}, "Vi/T": {"name": "test_vit", "image_size": 160}}


def file(folder: Path, **keys: Any) -> str:
    path = folder / "tiny.study.yaml"
    path.write_text(json.dumps({"towers": TINY, **keys}))
    return str(path)


def test_a_study_is_read_with_its_changes_and_written_whole(tmp_path: Path) -> None:
    study = load_tower_study(file(tmp_path), ["seconds=0.5", "only=[Vi/T]", "data=scenes"])
    assert study.name == "tiny"
    assert list(study.config.chosen) == ["Vi/T"]
    assert study.config.measuring.model_dump() == {
        "seconds": 0.5, "training_steps": 4, "training_batch_size": 32, "epoch_images": 6000
    }  # fmt: skip
    again = tmp_path / "again.study.yaml"
    again.write_text(dump_settings(study))
    assert load_tower_study(str(again)).config == study.config
    assert again.read_text().startswith("# tiny\n#   --set seconds=0.5\n")


def test_the_keys_of_a_file_tell_its_kind(tmp_path: Path) -> None:
    assert names_towers(file(tmp_path))
    assert names_towers("study/small_encoders")
    assert not names_towers("s_smke/flickr8k_ladder")
    with pytest.raises(UserError, match=r"Unknown study 'study/smal_encoders'\. Did you mean 'study/small_encoders'"):
        names_towers("study/smal_encoders")


def test_the_shipped_study_has_the_towers_of_the_small_encoder_study_and_more() -> None:
    towers = load_tower_study("study/small_encoders").config.towers
    assert len(towers) == 17
    assert {"resnet50", "mobilenetv2_100", "efficientnet_b0", "inception_v3", "fastvit_mci0"} <= {
        tower.name for tower in towers.values()
    }


@pytest.mark.parametrize(
    ("keys", "changes", "message"),
    [
        ({"towers": {}}, (), "towers needs at least one"),
        ({"only": ["vi/t"]}, (), "only: Unknown tower 'vi/t'. Did you mean 'Vi/T'"),
        ({"towers": {"a b": TINY["plain"], "a-b": TINY["plain"]}}, (), r"would share the file a-b\.json"),
        ({"towers": {"犬": TINY["plain"]}}, (), "needs a letter or digit of ASCII"),
        ({"towers": {"x": {"name": "test_resnett"}}}, (), r"x\.name: Unknown timm image tower 'test_resnett'"),
        ({"towers": {"x": {"nam": "test_resnet"}}}, (), "unknown key 'nam'. Did you mean 'name'"),
        ({}, ("train_data=scenes",), "train_data has no effect without data"),
        ({}, ("training_batch_size=1",), "training_batch_size: Input should be greater than or equal to 2"),
        ({}, ("seconds=0",), "seconds: Input should be greater than 0"),
        ({}, ("train.num_steps=1",), "unknown key 'train'"),
        ({"rows": []}, (), "unknown key 'rows'"),
        ({}, ("data=nothing:x",), "data: "),
    ],
)  # fmt: skip
def test_mistakes_are_told(keys: dict[str, Any], changes: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as told:
        load_tower_study(file(tmp_path, **keys), changes)
    assert str(told.value).startswith(str(tmp_path))


def test_a_tower_that_is_left_out_need_not_be_known() -> None:
    towers = {"a": {"name": "test_vit"}, "b": {"name": "of a later timm"}}
    assert list(TowerStudyConfig(towers=towers, only=("a",)).chosen) == ["a"]  # type: ignore[arg-type]
