"""`pocketclip demo` with its command `retrieval`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.group import Commands
from pocketclip.cli.loading import loading
from pocketclip.cli.options import MODEL_HELP, Device, Json, MaxBrokenShare

app = typer.Typer(cls=Commands, help="Pages that show what a model does.", no_args_is_help=True)


@app.callback()
def _demo() -> None:
    """Keeps `retrieval` a word of its own while it is the only command."""


@app.command()
def retrieval(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[
        str,
        typer.Option("--data", metavar="SOURCE", help="Pictures with captions, as KIND:PLACE."),
    ],
    out: Annotated[Path, typer.Option(help="HTML file.")] = Path("demo.html"),
    sentences: Annotated[
        list[str] | None, typer.Option("--sentence", metavar="TEXT", help="Ask this too; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of sentences and images.")] = 0,
    device: Device = "auto",
    max_broken_share: MaxBrokenShare = 0.01,
    json_lines: Json = False,
) -> None:
    """Write one HTML page with what a model finds, its recalls and its cost.

    Ten sentences with the five nearest images each and ten images with the five nearest sentences, drawn at random;
    the recalls over the whole source. The page needs no network.

    \b
    Example:
      pocketclip demo retrieval runs/mine --data folder:more_photos \\
        --sentence "two dogs in the snow"
    """
    from pocketclip.asked import open_model
    from pocketclip.cli.progress import reporter, tell_left_out
    from pocketclip.cli.tables import print_results
    from pocketclip.data import open_source
    from pocketclip.report.demo import check_request, make_demo, write_demo

    asked = check_request(out, sentences or [])
    source = open_source(data, place="--data")
    with loading(model):
        loaded = open_model(model, device=device)
    with reporter(max_broken_share, len(source)) as shown:
        tell_left_out(shown, source)
        demo = make_demo(model, loaded, source, sentences=asked, seed=seed, watch=shown)
    write_demo(demo, out)
    if json_lines:
        scores = {} if demo.result is None else demo.result.to_json()
        page = {"page": str(out), "page_bytes": out.stat().st_size, "draw_seed": seed}
        typer.echo(json.dumps({**scores, **page}))
        return
    if demo.result is not None:
        print_results([demo.result])
    typer.echo(f"Look at it: {out}")
