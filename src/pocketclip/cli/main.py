"""The `pocketclip` command."""

import importlib.metadata
import io
import os
import sys
from typing import Annotated

import typer

from pocketclip.cli import data as data_commands
from pocketclip.cli import demo as demo_commands
from pocketclip.cli.cost import cost
from pocketclip.cli.embed import embed
from pocketclip.cli.evaluate import evaluate
from pocketclip.cli.index import index
from pocketclip.cli.list import list_command
from pocketclip.cli.plan import plan
from pocketclip.cli.quickstart import quickstart
from pocketclip.cli.reinforce import reinforce
from pocketclip.cli.report import report
from pocketclip.cli.search import search
from pocketclip.cli.study import study
from pocketclip.cli.train import train
from pocketclip.errors import Interrupted, UserError, printable

app = typer.Typer(
    name="pocketclip",
    help="Small image-text models on a small budget: train, distil, measure, ship.\n\n"
    "Start with: pocketclip quickstart\n\n"
    "\b\nEnvironment variables:\n"
    "  POCKETCLIP_DATA    where relative places of data are looked for, too (./data)\n"
    "  POCKETCLIP_CACHE   features and numbers of pictures ($HOME/.cache/pocketclip)\n"
    "  OMP_NUM_THREADS    threads of torch; without it, the cores that are free",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # rich costs half of the time that --help may take
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(importlib.metadata.version("pocketclip"))
        raise typer.Exit


for command in (quickstart, train, evaluate, cost, plan, reinforce, study, embed, index, search, report):
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
    """Run a command; problems the user can fix end in one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):  # a name that is not UTF-8 ends no work; in JSON it is read back as it was
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:]
    if words[:1] == ["help"]:  # `pocketclip help data mix`
        words = [*words[1:], "--help"]
    try:
        app(words)
    except UserError as error:
        rank = f"rank {os.environ['RANK']}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""  # by torchrun
        typer.echo(printable(f"{rank}Error: {error}", keep="\n\t"), err=True)
        sys.exit(1)
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            typer.echo(f"{stop} Nothing is lost; go on with the same command and --resume.", err=True)
        sys.exit(130)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("Stopped. What was already written is kept.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
