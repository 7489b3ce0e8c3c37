"""Parameter counts of a model and its parts."""

import torch
from torch import nn

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.cost.parameters import count_parameters, parameters_by_part
from pocketclip.models.dual_encoder import DualEncoder
from pocketclip.models.tower import CachedTower


def test_parts_add_up_to_the_whole(tiny_pretrained: PretrainedModel) -> None:
    counts = parameters_by_part(tiny_pretrained.model)
    parts = counts["parameters_image"] + counts["parameters_text"] + counts["parameters_heads"]
    assert counts["parameters_total"] == parts == count_parameters(tiny_pretrained.model)


def test_each_part_equals_counting_its_modules(tiny_pretrained: PretrainedModel) -> None:
    model = tiny_pretrained.model
    counts = parameters_by_part(model)
    assert counts["parameters_image"] == count_parameters(model.image_encoder)
    assert counts["parameters_text"] == count_parameters(model.text_encoder)
    heads = count_parameters(model.image_head) + count_parameters(model.text_head)
    assert counts["parameters_heads"] == heads + 1  # the temperature goes with the heads


def test_the_embedding_table_is_counted_apart(tiny_pretrained: PretrainedModel) -> None:
    vocabulary = tiny_pretrained.tokenizer.vocabulary_size
    tables = (vocabulary + 128 + 2) * 32  # words, positions and segments of tiny-bert
    assert parameters_by_part(tiny_pretrained.model)["parameters_text_embeddings"] == tables


def test_a_fixed_temperature_is_no_parameter() -> None:
    linear = nn.Linear(3, 2)
    model = DualEncoder(CachedTower(), CachedTower(), linear, nn.Linear(3, 2), learn_temperature=False)
    assert parameters_by_part(model)["parameters_heads"] == 2 * (3 * 2 + 2)


def test_a_shared_layer_counts_once_and_buffers_do_not() -> None:
    shared = nn.Linear(4, 4, bias=False)
    module = nn.Sequential(shared, shared, nn.BatchNorm1d(4))
    assert count_parameters(module) == 16 + 8
    assert sum(value.numel() for value in module.buffers()) == 9


def test_a_module_without_weights_has_none() -> None:
    assert count_parameters(nn.ReLU()) == 0
    assert isinstance(count_parameters(nn.Linear(2, 2, device=torch.device("meta"))), int)
