"""`pocketclip evaluate --suite`: many data sets by one name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pocketclip.evaluate.suites.run import Outcome

SuiteName = Annotated[
    str | None,
    typer.Option(
        "--suite", metavar="SUITE", help="Many data sets: a name (pocketclip list suites) or a YAML file; with --root."
    ),
]
SuiteRoot = Annotated[
    Path | None, typer.Option("--root", metavar="DIR", help="The folder that holds the sets of a suite.")
]
SuiteOut = Annotated[
    Path | None,
    typer.Option("--out", help="Keep the records of a suite; what is kept is not measured again."),
]


def evaluate_suite(
    model: str,
    suite: str,
    root: Path | None,
    *,
    out: Path | None,
    device: str,
    max_broken_share: float,
    as_json: bool,
    beside: Mapping[str, object],
) -> None:
    """Measure a model on a suite and print a line or a table a set, and the means; `beside` are other options."""
    from pocketclip.asked import open_model
    from pocketclip.cli.loading import loading
    from pocketclip.cli.progress import reporter
    from pocketclip.errors import UserError
    from pocketclip.evaluate.suites import read_suite
    from pocketclip.evaluate.suites.run import run_suite
    from pocketclip.models.running.precision import precision_of_scores

    chosen = read_suite(suite)
    if root is None:
        raise UserError(f"--suite {suite}: also needs --root DIR, the folder that holds its data sets.")
    for option, value in beside.items():
        if value:
            raise UserError(f"{option}: has no effect with --suite, which says what is measured, and on what.")
    with loading(model):
        loaded = open_model(model, device=device, precision=precision_of_scores("auto"))
    with reporter(max_broken_share) as shown:
        outcome = run_suite(chosen, loaded, root, out=out, watch=shown)
    _print(outcome, as_json=as_json)


def _print(outcome: "Outcome", *, as_json: bool) -> None:
    from pocketclip.cli.tables import plain_console, print_results, print_table
    from pocketclip.errors import printable

    if as_json:
        print_results(outcome.results.values(), as_json=True)
        typer.echo(json.dumps(outcome.to_json()))
        return
    sets = [one for one in outcome.suite.sets if one.name in outcome.results]
    num_images = {name: f"{result.num_images:,}" for name, result in outcome.results.items()}
    rows = [[one.called, ", ".join(one.score), num_images[one.name], f"{100 * outcome.score(one):.1f}"] for one in sets]
    title = f"{outcome.suite.title}: {outcome.model} on {len(sets)} of {len(outcome.suite.sets)} sets"
    print_table(title, ("set", "score", "images", "percent"), rows)
    lines = [f"{name}: {100 * m.value:.1f} over {m.num_sets} of {m.of} sets" for name, m in outcome.means().items()]
    if outcome.missing:
        lines.append(f"left out, {len(outcome.missing)} of {len(outcome.suite.sets)} sets:")
        lines += [f"  {name}: {reason}" for name, reason in outcome.missing.items()]
    for line in lines:
        plain_console().print(printable(line), highlight=False, soft_wrap=True)
