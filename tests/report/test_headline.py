"""What a page says first."""

from collections.abc import Mapping

from pocketclip.records import EvalResult, Interval, Provenance
from pocketclip.report.headline import comparison_headline, headline

HERE = Provenance(hardware="a toaster", code_version="1", date="2026-01-01", command="pocketclip")


def result(task: str = "retrieval", split: str = "val", metrics: Mapping[str, Interval | float] = {}) -> EvalResult:
    return EvalResult(
        task=task, dataset="x", split=split, num_images=400, num_captions=400, metrics=dict(metrics), provenance=HERE,
    )  # fmt: skip


def recall(value: float, split: str = "val") -> EvalResult:
    score = Interval(value=value, low=value - 0.01, high=value + 0.01)
    return result(metrics={"text_to_image_recall@1": score, "image_to_text_recall@1": 0.158}, split=split)


def test_how_often_the_right_one_comes_first_and_by_chance() -> None:
    assert headline([recall(0.3), recall(0.155, split="test")]) == [
        "The right picture comes first for 15.5 of 100 sentences; by chance 0.25.",
        "A right sentence comes first for 15.8 of 100 pictures.",
    ]


def test_every_task_speaks_of_its_own() -> None:
    assert headline([result("nlvr2", metrics={"accuracy": 0.613, "consistency": 0.2})]) == [
        "61.3 of 100 sentences about two pictures are judged rightly; by chance 50."
    ]
    assert headline([result("linear_probe", metrics={"top1_accuracy": 0.8, "commonest_class_accuracy": 0.1})]) == [
        "80.0 of 100 examples get their class.",
        "Always the commonest class would be right for 10.0 of 100.",
    ]
    assert headline([result("of another version", metrics={"x": 0.5})]) == []
    assert headline([]) == []


def test_of_several_runs_the_best_is_named_first() -> None:
    assert comparison_headline([("a", recall(0.1)), ("b", recall(0.2)), ("c", recall(0.15))]) == [
        "The right picture comes first for 20.0 of 100 sentences with 'b'; 15.0 with 'c', 10.0 with 'a'."
    ]
    assert "overlap" in comparison_headline([("a", recall(0.1)), ("b", recall(0.11))])[-1]


def test_runs_on_different_data_are_not_ranked() -> None:
    (sentence,) = comparison_headline([("a", recall(0.1)), ("b", recall(0.2, split="test"))])
    assert "cannot be compared" in sentence
    assert comparison_headline([("a", recall(0.1)), ("b", None)]) == []
