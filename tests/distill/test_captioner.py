import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import teachers as tiny
from pocketclip.distill.captioner import Captioner, _NucleusChoice, first_sentence, load_captioner
from pocketclip.distill.config import CaptionerConfig
from pocketclip.errors import UserError

CPU = torch.device("cpu")
PICTURES = [np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8) for number in range(4)]
SEEDS = [[7, number] for number in range(4)]


@pytest.fixture(scope="module", params=["blip", "vision_encoder_decoder"])
def captioner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    folder = tiny.write_captioner(tmp_path_factory.mktemp("captioner"), request.param)
    return load_captioner(CaptionerConfig(name=str(folder), num_captions=3, max_tokens=8), CPU, "float32")


def test_every_picture_gets_sentences_that_differ(captioner: Captioner) -> None:
    captions = captioner.write(PICTURES, SEEDS)
    assert len(captions) == 4
    assert all(1 <= len(of_one) <= 3 for of_one in captions)
    assert len({text for of_one in captions for text in of_one}) > 4
    assert all(0 < len(text.split()) <= 8 and "[" not in text for of_one in captions for text in of_one)


def test_captions_depend_on_picture_and_seed_alone(captioner: Captioner) -> None:
    whole = captioner.write(PICTURES, SEEDS)
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda number: captioner.write([PICTURES[number]], [SEEDS[number]])[0], range(4)))
    assert alone == whole
    assert captioner.write(PICTURES[:1], [[8, 0]]) != whole[:1]


def test_global_random_state_changes_nothing(captioner: Captioner) -> None:
    found = []
    for seed in range(3):
        random.seed(seed)
        torch.manual_seed(seed)
        found.append(captioner.write(PICTURES, SEEDS))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("top_p", [0.3, 0.6, 1.0])
def test_words_are_drawn_from_the_nucleus_by_their_probability(top_p: float) -> None:
    shares = torch.tensor([0.05, 0.5, 0.1, 0.25, 0.1])
    choice = _NucleusChoice(top_p, [np.random.default_rng(0)], 4000)
    chosen = choice(torch.zeros(4000, 1), shares.log().repeat(4000, 1)).isfinite()
    assert (chosen.sum(1) == 1).all()
    kept = {0.3: [1], 0.6: [1, 3], 1.0: [0, 1, 2, 3, 4]}[top_p]
    expected = torch.zeros(5).scatter(0, torch.tensor(kept), shares[kept]) / shares[kept].sum()
    assert torch.allclose(chosen.float().mean(0), expected, atol=0.03)
    assert (chosen.float().mean(0)[expected == 0] == 0).all()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a dog runs. it is brown.", "a dog runs"),
        ("a dog runs.", "a dog runs"),
        (" a 3.5 metre boat", "a 3.5 metre boat"),
        ("", ""),
        (".", ""),
    ],
)
def test_only_the_first_sentence_is_kept(text: str, kept: str) -> None:
    assert first_sentence(text) == kept


def test_a_silent_captioner_gives_no_caption(tmp_path: Path) -> None:
    folder = tiny.write_captioner(tmp_path / "silent", silent=True)
    assert load_captioner(CaptionerConfig(name=str(folder)), CPU, "float32").write(PICTURES[:2], SEEDS[:2]) == [(), ()]


def test_a_model_that_is_no_captioner_is_named(tmp_path: Path) -> None:
    clip = tiny.write_huggingface_teacher(tmp_path / "clip")
    for name in (str(clip), str(tmp_path / "nothing"), "nobody/nothing"):
        with pytest.raises(UserError, match=rf"captioner\.name: {name}: cannot be loaded"):
            load_captioner(CaptionerConfig(name=name), CPU)
