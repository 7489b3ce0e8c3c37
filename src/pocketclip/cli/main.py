"""The `pocketclip` command."""

import importlib.metadata
import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated

import typer

from pocketclip.cli import data as data_commands
from pocketclip.cli import demo as demo_commands
from pocketclip.cli import telling
from pocketclip.cli.board import board
from pocketclip.cli.compare import compare
from pocketclip.cli.cost import cost
from pocketclip.cli.embed import embed
from pocketclip.cli.evaluate import evaluate
from pocketclip.cli.fit import fit
from pocketclip.cli.group import SETTINGS, Commands
from pocketclip.cli.hubs import hubs
from pocketclip.cli.index import index
from pocketclip.cli.kept import going_on, kept
from pocketclip.cli.list import list_command
from pocketclip.cli.plan import plan
from pocketclip.cli.quickstart import quickstart
from pocketclip.cli.reinforce import reinforce
from pocketclip.cli.report import report
from pocketclip.cli.search import search
from pocketclip.cli.streams import FULL, drop_unwritten, prepare_streams, unwritten
from pocketclip.cli.study import study
from pocketclip.cli.train import train
from pocketclip.errors import Interrupted, UserError, install_line, printable

STOPPED = 130
"""The exit code of what Ctrl-C ended, as shells have it."""
app = typer.Typer(
    name="pocketclip",
    cls=Commands,
    help="Small image-text models on a small budget: train, distil, measure, ship.\n\n"
    "Start with: pocketclip quickstart. Your own pictures: pocketclip fit folder:photos --budget 20min\n\n"
    "Results go to stdout: as a table on a terminal, as lines of JSON into a pipe or a file. --format table and "
    "--format json decide otherwise, in every command that has --format; --json is short for --format json. Notes and "
    "progress go to stderr. -q and -v may stand before or behind a command.\n\n"
    "\b\nEnvironment variables:\n"
    "  POCKETCLIP_DATA   where relative places of data are looked for, too (./data)\n"
    "  POCKETCLIP_CACHE  features, numbers of pictures ($HOME/.cache/pocketclip)\n"
    "  OMP_NUM_THREADS   threads of torch; without it, the cores that are free",
    no_args_is_help=True,
    context_settings=SETTINGS,
    rich_markup_mode=None,  # rich costs half of the time that --help may take
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(importlib.metadata.version("pocketclip"))
        raise typer.Exit


for command in (
    quickstart,
    fit,
    train,
    evaluate,
    compare,
    cost,
    plan,
    reinforce,
    study,
    embed,
    hubs,
    index,
    search,
    report,
    board,
):
    app.command()(command)
app.add_typer(data_commands.app, name="data")
app.add_typer(demo_commands.app, name="demo")
app.command("list")(list_command)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """What may stand before a command; its help is the app's."""
    del version


def main() -> None:
    """Run a command; problems the user can fix end in one line and exit code 1.

    Where the reader of our output goes away, as `head` does, the command ends as others do: without a word, with 141.
    """
    prepare_streams()
    telling.forget()
    try:
        code = _run(sys.argv[1:])
        if (problem := unwritten()) is not None:
            raise problem
    except BrokenPipeError:
        code = 141
    except OSError as error:
        if error.filename is not None or error.errno not in FULL:
            raise
        drop_unwritten()  # of the two streams the other one may still be read
        with suppress(OSError):
            typer.echo(f"Error: Cannot write the output: {error.strerror or error}.", err=True)
        code = 1
    drop_unwritten()
    sys.exit(code)


def _run(words: list[str]) -> int:
    """The exit code of a command."""
    if words[:1] == ["help"]:  # `pocketclip help data mix`
        words = [*words[1:], "--help"]
    try:
        app(words)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer ends with 1 then
            raise end.__context__ from None
        if end.code == STOPPED:  # typer's end of Ctrl-C
            _tell_kept(words)
        return end.code if isinstance(end.code, int) else 1
    except UserError as error:
        if telling.asked.verbose:
            traceback.print_exception(error)
        rank = f"rank {os.environ['RANK']}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""  # by torchrun
        typer.echo(printable(f"{rank}Error: {error}", keep="\n\t"), err=True)
        return 1
    except ModuleNotFoundError as error:
        if (line := install_line(error)) is None:  # a fault of ours
            raise
        typer.echo(f"Error: {line}", err=True)
        return 1
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            typer.echo(f"{stop} Nothing is lost; go on with {going_on(words)}.", err=True)
        return STOPPED
    except (KeyboardInterrupt, typer.Abort):
        _tell_kept(words)
        return STOPPED
    return 0


def _tell_kept(words: list[str]) -> None:
    if os.environ.get("RANK", "0") == "0":
        typer.echo(kept(words), err=True)


if __name__ == "__main__":
    main()
