"""What is told of the work on stderr."""

import io

from rich.console import Console
from rich.progress import Progress

from pocketclip.cli.progress import Reporter


def test_a_note_is_shown_as_it_is() -> None:
    shown = io.StringIO()
    Reporter(Console(file=shown, width=20), None).note("left out: [a] :smile: of a long line")
    assert shown.getvalue() == "left out: [a] :smile: of a long line\n"


def test_a_bar_holds_name_parts_and_speed() -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=120, force_terminal=True)
    with Progress("{task.description}", "{task.fields[info]}", console=console) as bars:
        reporter = Reporter(console, bars)
        reporter.step("train", 3, 9, 50.0, {"loss": 0.5})
        (task,) = bars.tasks
        assert (task.description, task.completed, task.total) == ("train", 3, 9)
        assert task.fields["info"] == "50 images/s  loss 0.500"
