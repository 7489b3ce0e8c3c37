"""`pocketclip data filter rows:PLACE`: filtering scored rows without their pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketclip.cli.tables import print_one
from pocketclip.cli.telling import tell

if TYPE_CHECKING:
    from pocketclip.curate.baselines import BaselineFiles
    from pocketclip.curate.rows import RowFilter

ROWS = "rows:"


def filter_rows_of(
    place: str,
    rules: Mapping[str, Any],
    *,
    baseline: str | None,
    files: "BaselineFiles",
    score: str | None,
    ids: Path | None,
    histogram: Path | None,
    others: Mapping[str, object],
    as_json: bool,
) -> None:
    """Filter a table, write the ids of what stays and the picture; `others` are options that make no sense here."""
    from pocketclip.cli.progress import reporter
    from pocketclip.curate.row_filter import filter_rows
    from pocketclip.data.ids import check_ending, write_ids
    from pocketclip.errors import UserError
    from pocketclip.files import make_folder_of
    from pocketclip.report import histogram as drawing

    if given := [name for name, value in others.items() if value]:
        raise UserError(f"--{given[0]} has no effect with rows:, of which no picture is opened; leave it out.")
    if ids is None:
        raise UserError("rows: are filtered into a list of ids: add --ids FILE.")
    check_ending(ids)
    filters = row_filters(rules, baseline, files, score)
    if histogram is not None:
        drawing.check(histogram, *(one.rules for one in filters))
        make_folder_of(histogram, elsewhere="--histogram")
    make_folder_of(ids, elsewhere="--ids")
    with reporter() as shown:
        verdict = filter_rows(Path(place.removeprefix(ROWS)), filters, shown, with_histograms=histogram is not None)
    names = verdict.ids()
    write_ids(ids, names)
    if histogram is not None:
        drawing.write_histograms(histogram, verdict.histograms)
    report = verdict.report
    for rule, count in report.dropped.items():
        tell(f"{rule}: {count:,} rows dropped")
    for column, cut in report.cuts.items():
        tell(f"{column}: {cut:.6g} is the least that stays")
    if nameless := report.num_kept - len(names):
        tell(f"{nameless:,} rows that stay have no id, and are not in the list")
    tell(f"{len(names):,} ids in {ids}. Train on them with --set data.subset.ids={ids}")
    rows = [["rows", f"{report.num_rows:,}", f"{report.num_kept:,}"]]
    print_one(report.model_dump(), str(ids), ["", "read", "kept"], rows, as_json=as_json)


def row_filters(
    rules: Mapping[str, Any], baseline: str | None, files: "BaselineFiles", score: str | None
) -> "list[RowFilter]":
    """From rules of one's own, a baseline of DataComp, or both, which then all have to pass."""
    from pocketclip.curate import baselines
    from pocketclip.curate.filter import FilterConfig, given_rules
    from pocketclip.curate.rows import RowFilter
    from pocketclip.errors import UserError

    named = [] if baseline is None else baselines.baseline(baseline, files)
    if baseline is None:
        baselines.refuse_files(files)
    given = given_rules(rules)
    if baseline is not None and not given:
        if score is not None:
            raise UserError("--score has no effect beside --baseline, which names its own; leave it out.")
        return named
    own = FilterConfig.parse(rules, place="pocketclip data filter")
    if score is not None and not own.needs_model:
        raise UserError("--score has no effect without --min-similarity or --keep-share.")
    return [*named, RowFilter(own.model_dump(exclude_defaults=True), score)]
