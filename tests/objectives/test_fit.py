"""A method says what it needs as data, and a recipe that lacks it is refused in the same words for every method."""

import pytest

from conftest import tiny_recipe_settings
from pocketclip.config import Config, kinds_of
from pocketclip.data import SourceConfig
from pocketclip.evaluate.tasks import embedding_task
from pocketclip.objectives import ObjectiveConfig
from pocketclip.objectives.fit import PAIR_SOURCES, check_fit
from pocketclip.objectives.needs import MethodConfig, Needs
from pocketclip.objectives.terms import Term, TermOfEach
from pocketclip.recipe import Recipe
from pocketclip.types import Objective

CACHED = {"num_steps": 4, "batch_size": 4, "learning_rate": {"heads": 0.001}, "cache": {}}


class NewMethodConfig(MethodConfig):
    """A method that nothing but its own file knows."""

    kind: str = "new"
    asked: Needs = Needs("new")

    @property
    def needs(self) -> Needs:
        return self.asked

    def build(self, **widths: object) -> Objective:
        raise AssertionError("what fits is known from the needs alone")


def recipe_with(needs: Needs, **sections: object) -> Recipe:
    recipe = Recipe.parse({**tiny_recipe_settings(), **sections}, place="test")
    return recipe.model_copy(update={"objective": NewMethodConfig(asked=needs)})


def test_a_method_that_asks_for_nothing_fits() -> None:
    check_fit(recipe_with(Needs("new")))
    check_fit(recipe_with(Needs("new"), train=CACHED))


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Needs("new", bias=True), "a new loss needs model.logit_bias"),
        (Needs("new", teachers="images"), "objective.kind new learns from teachers"),
        (Needs("new", teachers="classes", setting="of"), "objective.of compares classes, so it needs live teachers"),
        (Needs("new", hidden_layer="layers"), "objective.layers: hidden is a layer of model.shared_encoder"),
        (Needs("new", queue=("memory", 3)), "objective.memory: 3 is less than train.batch_size, 4"),
        (Needs("new", labels=True), "objective.kind new learns from classes, which data.train does not give"),
        (
            Needs("new", identities=True),
            "objective.kind new needs identities, and data.train, of kind scenes, tells of",
        ),
        (Needs("new", pairs=True), "objective.kind new needs data.train of kind nlvr2 or scene_pairs"),
    ],
)
def test_what_is_missing_is_named(needs: Needs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fit(recipe_with(needs))


def test_what_no_cache_keeps_goes_without_one() -> None:
    with pytest.raises(ValueError, match=r"objective\.kind new needs fresh views, which no cache keeps"):
        check_fit(recipe_with(Needs("new", uncached="fresh views"), train=CACHED))
    with pytest.raises(ValueError, match=r"objective\.kind new needs several views, which no cache keeps"):
        check_fit(recipe_with(Needs("new", views=2), train=CACHED))


def test_several_views_are_drawn_and_not_those_that_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    check_fit(recipe_with(Needs("new", views=2)))
    recipe = recipe_with(Needs("new", views=2))
    monkeypatch.setattr(type(recipe.data.train), "gives", frozenset({"captions", "stored_views"}))
    with pytest.raises(
        ValueError, match=r"objective\.kind new draws 2 views of an image; read the shards as webdataset:"
    ):
        check_fit(recipe)


def test_messages_name_every_kind_of_source_with_pairs() -> None:
    fixed = {
        kind: source.gives for kind, source in kinds_of(SourceConfig).items() if isinstance(source.gives, frozenset)
    }
    assert {kind for kind, gives in fixed.items() if "pairs" in gives} == set(PAIR_SOURCES)


def test_a_method_is_measured_by_a_task_that_there_is() -> None:
    settings = {"distillation": {"terms": [{"kind": "feature"}]}, "s_smke": {"distill": {"kind": "none"}}}
    settings["person"] = {"terms": [{"kind": "sdm"}]}
    methods = {kind: member(**settings.get(kind, {})) for kind, member in kinds_of(ObjectiveConfig).items()}
    assert {kind: method.needs.task for kind, method in methods.items() if method.needs.task != "retrieval"} == {
        "person": "person_retrieval",
        "pairs": "nlvr2",
    }
    assert all(embedding_task(method.needs.task).kind == method.needs.task for method in methods.values())


@pytest.mark.parametrize(("base", "missing"), [(MethodConfig, "build"), (Term, "value"), (TermOfEach, "of_teacher")])
def test_what_lacks_its_part_cannot_be_made(base: type[Config], missing: str) -> None:
    with pytest.raises(TypeError, match=f"abstract.*{missing}"):
        type("Unfinished", (base,), {"__module__": __name__})(kind="unfinished")
