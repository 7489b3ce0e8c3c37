"""The tasks of `pocketclip evaluate` that learn something first, and so need training data beside the test data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pocketclip.cli.options import source_text

if TYPE_CHECKING:
    from pocketclip.data.source import Source
    from pocketclip.data.texts import LabelledTexts
    from pocketclip.records import EvalResult

TASKS = {
    "linear_probe": "Accuracy of a classifier on the image tower's frozen features, against the tower before training.",
    "fine_tuning": "Accuracy of the image tower trained on with a classifier, against the tower before training.",
    "text_probe": "Accuracy of a classifier on the text tower's frozen features, against the tower before training.",
}
HELD_OUT_SHARE = 0.2
"""Of the data, for testing, where no training data are given."""


def measure_unimodal(
    tasks: Sequence[str],
    model: str,
    data: str,
    train_data: str | None,
    *,
    device: str,
    max_broken_share: float,
    against_start: bool,
    changes: Sequence[str],
) -> "list[EvalResult]":
    """Measure tasks of this file, one record each.

    Args:
        tasks: some of TASKS.
        model: a bundle, a run folder or a hub name.
        data: what to test on, as it was typed.
        train_data: what to learn from; None splits `data`.
        device: `cpu`, `cuda` or `auto`.
        max_broken_share: of a source's items.
        against_start: whether to compare with the towers before training.
        changes: `KEY=VALUE` settings of fine_tuning.

    Raises:
        UserError: anything the user can fix.
    """
    from pocketclip.asked import open_bundle
    from pocketclip.cli.progress import reporter
    from pocketclip.evaluate.unimodal import image_probe, text_probe
    from pocketclip.run.fine_tuning import FineTuningConfig, fine_tuned

    settings = {"max_broken_share": max_broken_share, **_settings(changes)}
    config = FineTuningConfig.parse(settings, place="--set")
    texts = _texts(data, train_data) if "text_probe" in tasks else None
    images = _sources(data, train_data) if set(tasks) - {"text_probe"} else None
    loaded = open_bundle(model, device=device, purpose=f"--task {tasks[0]}")
    results = []
    with reporter(max_broken_share) as shown:
        for task in tasks:
            if task == "text_probe":
                assert texts is not None
                results.append(text_probe(loaded, *texts, against_start=against_start, watch=shown))
                continue
            assert images is not None
            if task == "linear_probe":
                results.append(image_probe(loaded, *images, against_start=against_start, watch=shown))
            else:
                results.append(fine_tuned(loaded, *images, config, watch=shown, against_start=against_start))
    return results


def _sources(data: str, train_data: str | None) -> "tuple[Source, Source]":
    """What to learn from, and what to test on."""
    from pocketclip.data import hold_out, open_source

    test = open_source(source_text(data), place="--data")
    if train_data is None:
        return hold_out(test, HELD_OUT_SHARE)
    return open_source(source_text(train_data), place="--train-data"), test


def _texts(data: str, train_data: str | None) -> "tuple[LabelledTexts, LabelledTexts]":
    from pocketclip.data.texts import open_texts

    test = open_texts(data, place="--data")
    return test.hold_out(HELD_OUT_SHARE) if train_data is None else (open_texts(train_data, place="--train-data"), test)


def _settings(changes: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` as a mapping; values are YAML."""
    import yaml

    from pocketclip.errors import UserError

    values = {}
    for change in changes:
        key, equals, text = change.partition("=")
        try:
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {change}: the value is not valid YAML ({error}).") from error
        if not equals:
            raise UserError(f"--set {change}: should be KEY=VALUE, such as num_epochs=10.")
    return values
