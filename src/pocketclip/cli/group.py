"""A group of commands: with the options that all of them have, and help of whole sentences."""

import re
from typing import Any, Literal, cast

import typer
from typer.core import TyperGroup, TyperOption

from pocketclip.cli import telling
from pocketclip.errors import nearest

EARLIER_NAMES = {"hourly-dollars": "price"}
"""Options of earlier versions, which go on working, by what they are called now."""
FORMATS = ("table", "json")
SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: EARLIER_NAMES.get(name, name),
}


class Commands(TyperGroup):
    """Adds `--quiet` and `--verbose` to a group and its commands, and `--format` to those that have `--json`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        _add_loudness(self.params)
        for command in self.commands.values():
            if isinstance(command, TyperGroup):  # has added its own
                continue
            for place, option in enumerate(command.params):
                if "--json" in option.opts:
                    command.params.insert(place, _format_option(command.name))
                    break
            _add_loudness(command.params)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands with the whole first sentence of each, where typer would cut it to a line."""
        rows = [(name, command.get_short_help_str(1000)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command that was typed; a choice that there is not gets the nearest one there is."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            got = re.match(r"'(.*)' is not one of ", error.message)
            near = nearest(got[1], getattr(getattr(error.param, "type", None), "choices", ())) if got else None
            if near is not None:
                error.message = f"did you mean '{near}'? {error.message}"
            raise


def _add_loudness(params: list[Any]) -> None:
    told = {
        ("-q", "--quiet"): ("Print results and errors only, no notes and bars.", _hear_quiet),
        ("-v", "--verbose"): ("Add versions, places and the causes of errors.", _hear_verbose),
    }
    for names, (sentence, hear) in told.items():
        flag = TyperOption(
            param_decls=list(names), is_flag=True, default=False, expose_value=False, is_eager=True, help=sentence,
            callback=hear,
        )  # fmt: skip
        params.append(flag)


def _formats(command: str | None) -> tuple[str, ...]:
    return FORMATS + (("csv",) if command == "evaluate" else ())


def _format_option(command: str | None) -> TyperOption:
    more = "; or csv, a row a metric" if "csv" in _formats(command) else ""
    return TyperOption(
        param_decls=["--format"],
        type=str,
        metavar="|".join(FORMATS),
        expose_value=False,
        is_eager=True,  # before --json, which looks at it
        help="Of the results; without it a table on a terminal, JSON lines into a pipe or a file" + more + ".",
        callback=_hear_format,
    )


def _hear_quiet(ctx: Any, param: Any, value: bool) -> None:
    if value and telling.asked.verbose:
        raise typer.BadParameter("is the opposite of --verbose; give one of them.", ctx=ctx, param=param)
    if value:
        telling.be_quiet()


def _hear_verbose(ctx: Any, param: Any, value: bool) -> None:
    if value and telling.asked.quiet:
        raise typer.BadParameter("is the opposite of --quiet; give one of them.", ctx=ctx, param=param)
    if value:
        telling.be_verbose()


def _hear_format(ctx: Any, param: Any, value: str | None) -> None:
    if value is None:
        return
    known = _formats(ctx.command.name)
    if value not in known:
        near = nearest(value, known)
        hint = f"did you mean '{near}'? " if near else ""
        listed = ", ".join(f"'{name}'" for name in known)
        raise typer.BadParameter(f"{hint}'{value}' is not one of {listed}.", ctx=ctx, param=param)
    telling.asked.format = cast(Literal["table", "json", "csv"], value)
