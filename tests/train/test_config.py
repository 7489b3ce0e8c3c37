"""Settings that contradict each other or would have no effect are errors."""

import pytest

from pocketclip.errors import UserError
from pocketclip.train.config import TrainConfig

BASE = {"num_steps": 2, "batch_size": 2, "learning_rate": {"heads": 0.1}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": None}, "give num_epochs or num_steps, or a budget"),
        ({"budget": {"minutes": 1, "seconds": 1}}, "a budget has exactly one of .* \\(got seconds and minutes\\)"),
        ({"budget": {"watts": 50}}, "a budget has exactly one of .* \\(got none\\)"),
        ({"budget": {"minutes": 1, "watts": 50}}, "watts has an effect with joules only"),
        ({"budget": {"minutes": 1, "dollars_per_hour": 1}}, "dollars_per_hour has an effect with dollars only"),
        ({"budget": {"minutes": 0}}, "budget.minutes"),
        ({"learning_rate": {}}, "every part is frozen"),
        ({"cache": {}, "learning_rate": {"heads": 0.1, "image_encoder": 0.1}}, "cache needs a frozen image tower"),
        ({"cache": {}, "augment": {"flip": True}}, "augment has no effect with cache"),
        ({"augment_further": {"flip": "swap_sides"}}, "augment_further.flip: the captions go with the first view"),
        ({"augment": {"flip": "sides"}}, "augment.flip: should be true, false or swap_sides .got 'sides'"),
        ({"augment": {"flip": 2}}, "augment.flip: should be true, false or swap_sides .got 2"),
        ({"cache": {}, "chunk_size": 4}, "chunk_size has no effect"),
        ({"cache": {}, "batch_norm": "frozen"}, "batch_norm has no effect"),
        ({"cache": {}, "epoch": "captions"}, "epoch has no effect"),
        ({"epoch": "captions", "captions_per_image": 2}, "captions_per_image must be 1"),
        ({"evaluate_every": None, "early_stopping": {}}, "evaluate_every is off"),
        ({"evaluate_every": None, "schedule": {"kind": "plateau"}}, "evaluate_every is off"),
        ({"batch_size": 1}, "batch_size"),
        ({"schedule": {"kind": "cosin"}}, "cosine"),
        ({"keep_steps": [3]}, r"keep_steps: the run ends at step 2 \(got 3\)"),
        ({"branch": "runs/x"}, r"branch needs schedule\.kind constant, of .* \(got cosine\)"),
        ({"branch": "runs/x", "schedule": {"kind": "constant"}}, r"branch\.step is needed"),
        (
            {"branch": "runs/x", "schedule": {"kind": "constant"}, "budget": {"macs": 1e9}},
            "branch does not go with a budget: give num_steps",
        ),
        ({"optimizer": {"kind": "adam"}}, "Unknown kind 'adam'. Did you mean 'adamw'"),
        ({"optimizer": {"eps": 0}}, r"optimizer\.eps: .*greater than 0"),
        ({"optimizer": {"weight_decya": 0}}, r"optimizer\.weight_decya: .*Did you mean 'weight_decay'"),
        ({"optimizer": {"kind": "adafactor", "eps": 1e-6}}, r"optimizer\.eps: unknown key"),
        ({"lerning_rate": 1}, "lerning_rate: unknown key"),
    ],
)
def test_mistakes_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainConfig.parse({**BASE, **changes}, place="recipe.yaml")


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"), [(2, None, 20), (None, 7, 7), (2, 7, 7), (0.5, 100, 5), (0.01, None, 1)]
)
def test_the_run_ends_at_whichever_comes_first(epochs: float | None, steps: int | None, expected: int) -> None:
    config = TrainConfig.parse({**BASE, "num_epochs": epochs, "num_steps": steps}, place="x")
    assert config.total_steps(10) == expected


def test_an_optimizer_without_a_kind_is_adamw_and_is_written_as_before() -> None:
    config = TrainConfig.parse({**BASE, "optimizer": {"weight_decay": 0.5}}, place="x")
    assert config == TrainConfig.parse({**BASE, "optimizer": {"kind": "adamw", "weight_decay": 0.5}}, place="x")
    assert config.model_dump()["optimizer"] == {
        "weight_decay": 0.5,
        "decay_one_dimensional": False,
        "decay_embeddings": True,
        "betas": (0.9, 0.98),
        "eps": 1e-6,
    }
    assert not {"branch", "keep_steps"} & config.model_dump().keys()
    adafactor = TrainConfig.parse({**BASE, "optimizer": {"kind": "adafactor"}}, place="x")
    assert TrainConfig.parse(adafactor.model_dump(mode="json"), place="dumped") == adafactor
