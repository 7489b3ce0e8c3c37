"""Smaller tables of word embeddings: texts of kept tokens give the same bits, in every family of towers."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from pocketclip.models.text.config import ClipTextEncoderConfig, HuggingFaceTextEncoderConfig

BERT = {"vocab_size": 90, "max_position_embeddings": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
        "hidden_size": 32, "intermediate_size": 64}  # fmt: skip
GPT2 = {"vocab_size": 90, "n_positions": 20, "n_layer": 2, "n_head": 2, "n_embd": 32, "bos_token_id": 80}
HUGGING_FACE: dict[str, dict[str, Any]] = {
    "bert": {**BERT, "pad_token_id": 0},
    "distilbert": {"vocab_size": 90, "max_position_embeddings": 20, "n_layers": 2, "n_heads": 2, "dim": 32},
    "electra": {**BERT, "embedding_size": 16},
    "roberta": {**BERT, "pad_token_id": 3, "bos_token_id": 70, "eos_token_id": 72},
    "mpnet": BERT,
    "gpt2": {**GPT2, "eos_token_id": 80},
    "clip_text_model": {**BERT, "bos_token_id": 88, "eos_token_id": 89},
}
FAMILIES = [*HUGGING_FACE, "clip"]


def settings(name: str, **changes: Any) -> HuggingFaceTextEncoderConfig | ClipTextEncoderConfig:
    if name == "clip":
        return ClipTextEncoderConfig(
            width=32, num_layers=2, num_heads=2, vocabulary_size=90, context_length=16, pooling="last",
            causal=False, padding="seen", **changes,
        )  # fmt: skip
    architecture = {"model_type": name, **HUGGING_FACE[name]}
    return HuggingFaceTextEncoderConfig.parse(
        {"name": name, "pretrained": "none", "context_length": 16, "architecture": architecture, **changes},
        place="test",
    )


def texts(ids: list[int]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    mask = torch.arange(12) < torch.tensor([12, 3, 7, 1])[:, None]
    chosen = torch.tensor(ids)[torch.randint(0, len(ids), mask.shape, generator=random)]
    return chosen * mask, mask


def choose(needed: set[int]) -> list[int]:
    random = torch.Generator().manual_seed(2)
    return sorted(needed | {0} | set(torch.randperm(90, generator=random)[:25].tolist()))


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_of_kept_tokens_give_the_same_bits(name: str) -> None:
    torch.manual_seed(0)
    encoder = settings(name).build().eval()
    kept = choose(encoder.needed_tokens())
    tokens, mask = texts([number for number in kept if number not in (0, 3)])
    new_tokens = torch.tensor([[kept.index(number) for number in row] for row in tokens.tolist()])
    num_parameters = sum(value.numel() for value in encoder.parameters())
    with torch.no_grad():
        before = encoder(tokens, mask)
        encoder.keep_tokens(kept)
        assert torch.equal(encoder(new_tokens, mask), before)
    width = 16 if name == "electra" else 32
    assert sum(value.numel() for value in encoder.parameters()) == num_parameters - (90 - len(kept)) * width
    assert encoder.architecture["vocab_size"] == len(kept)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_smaller_tower_is_rebuilt_from_what_it_says_of_itself(name: str) -> None:
    encoder = settings(name).build().eval()
    encoder.keep_tokens(choose(encoder.needed_tokens()))
    architecture = json.loads(json.dumps(encoder.architecture))
    again = settings(name).as_built(architecture).build(load_pretrained=False).eval()
    again.load_state_dict(encoder.state_dict())
    tokens, mask = texts(list(range(4, 20)))
    with torch.no_grad():
        assert torch.equal(again(tokens, mask), encoder(tokens, mask))
    assert again.settings == encoder.settings


@pytest.mark.parametrize("name", FAMILIES)
def test_the_smaller_table_is_trained_or_frozen_as_the_whole_one(name: str) -> None:
    for frozen in (0, 1):
        encoder = settings(name, frozen_layers=frozen).build()
        encoder.keep_tokens(choose(encoder.needed_tokens()))
        own = {id(value) for value in encoder.parameters()}
        tables = [value for value in encoder.parameters() if len(value) == encoder.architecture["vocab_size"]]
        assert {id(value) for value in encoder.frozen_parameters} <= own
        assert bool(frozen) == any(value is tables[0] for value in encoder.frozen_parameters)
        assert tables[0].requires_grad


def test_positions_of_robertas_kin_are_counted_from_a_padding_id_that_stays() -> None:
    encoder = settings("roberta").build()
    assert {0, 1, 2, 3, 70, 72} <= encoder.needed_tokens()
    encoder.keep_tokens(choose(encoder.needed_tokens()))
    config = encoder.tower.config
    assert config.pad_token_id == 3
    assert config.eos_token_id < config.vocab_size
