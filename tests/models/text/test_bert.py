"""BERT for queries against transformers' own: the same names and the same bits, without importing it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.models.text.bert import Bert, is_plain_bert
from pocketclip.models.text.config import HuggingFaceTextEncoderConfig
from pocketclip.models.text.huggingface import quick_tower

TINY = {
    "model_type": "bert", "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 20, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}  # fmt: skip


def both(**settings: Any) -> tuple[Any, Any]:
    """A tower as it is trained and as it is asked, with the same weights."""
    given = {"architecture": TINY, "context_length": 16, **settings}
    config = HuggingFaceTextEncoderConfig(name="mine", pretrained="none", **given)
    torch.manual_seed(0)
    trained = config.build().eval()
    config = config.as_built(trained.architecture)
    asked = config.build(load_pretrained=False, for_queries=True).eval()
    assert isinstance(asked.tower, Bert)
    assert not isinstance(trained.tower, Bert)
    asked.load_state_dict(trained.state_dict())
    return trained, asked


def texts(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    tokens = torch.randint(1, 60, mask.shape, generator=torch.Generator().manual_seed(1))
    return tokens * mask, mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[1], [9], [9, 9], [3, 9, 1], [2] * 70 + [16]])
@pytest.mark.parametrize(
    "settings", [{}, {"joined_layers": (0, 2)}, {"num_layers": 2}, {"pooling": "cls"}, {"pooling": "eot"}]
)
@torch.inference_mode()
def test_the_bits_are_those_of_transformers(settings: dict[str, Any], lengths: list[int], dtype: torch.dtype) -> None:
    trained, asked = both(**settings)
    inputs = texts(lengths)
    assert torch.equal(asked.to(dtype)(*inputs), trained.to(dtype)(*inputs))


def test_both_say_the_same_of_themselves() -> None:
    trained, asked = both()
    assert asked.architecture == trained.architecture
    assert asked.feature_dim == trained.feature_dim
    assert asked.needed_tokens() == trained.needed_tokens()


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "distilbert"},
        {"hidden_act": "relu"},
        {"is_decoder": True},
        {"position_embedding_type": "relative_key"},
        {"layer_norm_eps": None},
        {"hidden_size": "wide"},
        {"num_attention_heads": -1, "hidden_size": -32},
    ],
)
def test_other_architectures_are_left_to_transformers(change: dict[str, Any]) -> None:
    changed = {key: value for key, value in {**TINY, **change}.items() if value is not None}
    assert quick_tower(changed, None) is None
    assert is_plain_bert(TINY)


@pytest.mark.slow
def test_a_query_imports_no_transformers(tiny_pretrained: PretrainedModel, tmp_path: Path) -> None:
    folder = tiny_pretrained.save_pretrained(tmp_path / "bundle")
    config = json.loads((folder / "config.json").read_text())
    assert config["model"]["text_encoder"]["architecture"]["model_type"] == "bert"
    code = f"""
import sys
from pocketclip.asked import open_model
print(open_model({str(folder)!r}, device="cpu", text_only=True).encode_text("a red boat").shape)
sys.exit(", ".join(sorted({{"transformers", "timm", "torchvision", "torch._dynamo"}} & set(sys.modules))) or None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
