"""The command reference, `docs/cli.md`, from the help texts: `python -m pocketclip.cli.reference > docs/cli.md`."""

import os

import typer.main
from typer.testing import CliRunner

from pocketclip.cli.main import app


def command_names() -> list[str]:
    """Every command as it is typed, such as `data inspect`."""
    root = typer.main.get_command(app)
    names = []
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        names += [f"{name} {sub}" for sub in sorted(below)] if below else [name]
    return names


def command_reference() -> str:
    """Markdown with the help of every command."""
    lines = ["# Commands", "", "Generated from `--help`; do not edit."]
    runner = CliRunner()
    environment = {**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    for name in ["", *command_names()]:
        result = runner.invoke(app, [*name.split(), "--help"], env=environment, prog_name="pocketclip")
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        lines += ["", f"## pocketclip {name}".rstrip(), "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(command_reference(), end="")  # noqa: T201
