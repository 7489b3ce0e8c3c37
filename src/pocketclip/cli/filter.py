"""`pocketclip data filter`."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketclip.cli import filter_options as options
from pocketclip.cli.loading import loading
from pocketclip.cli.options import Device, Json, MaxBrokenShare
from pocketclip.cli.rows import ROWS, filter_rows_of
from pocketclip.cli.stages import EngineOption, RayAddress, Resume, SamplesPerShard, ShardName
from pocketclip.cli.tables import print_one, tell_shards
from pocketclip.cli.telling import tell

if TYPE_CHECKING:
    from pocketclip.curate.baselines import BaselineFiles
    from pocketclip.curate.filter import FilterConfig, FilterReport, Verdict
    from pocketclip.curate.signals import Signals
    from pocketclip.data.source import Source
    from pocketclip.stages.store import Stage


def filter_source(
    source: options.FilterSource,
    out: options.Out = None,
    ids: options.Ids = None,
    histogram: options.HistogramFile = None,
    scores: options.Scores = None,
    min_image_side: options.MinImageSide = None,
    max_aspect_ratio: options.MaxAspectRatio = None,
    drop_duplicate_images: options.DropDuplicateImages = False,
    min_caption_words: options.MinCaptionWords = None,
    max_caption_words: options.MaxCaptionWords = None,
    min_caption_letters: options.MinCaptionLetters = None,
    language: options.Language = None,
    drop_duplicate_captions: options.DropDuplicateCaptions = False,
    min_similarity: options.MinSimilarity = None,
    keep_share: options.KeepShare = None,
    model: options.FilterModel = None,
    score: options.Score = None,
    baseline: options.Baseline = None,
    words: options.Words = None,
    centroids: options.Centroids = None,
    target: options.Target = None,
    name: ShardName = "data",
    samples_per_shard: SamplesPerShard = 1000,
    device: Device = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    resume: Resume = False,
    max_broken_share: MaxBrokenShare = 0.01,
    json_lines: Json = False,
) -> None:
    """Keep the samples that pass the given rules, as WebDataset shards or a list of ids; count what each dropped.

    Rules apply in the order of this list. Those about captions drop captions; an image goes with its last
    one, and one that never had any goes, too.
    How similar caption and image are, from -1 to 1, is what --model says, or of rows a column.
    A recipe reads the list as data.subset.ids: no copy of the pictures is needed.

    \b
    Examples:
      pocketclip data filter folder:photos --out kept --min-image-side 64
      pocketclip data filter folder:photos --ids best.txt --model runs/mine \\
        --keep-share 0.5 --histogram cut.svg
      pocketclip data filter rows:metadata --ids best.npy \\
        --baseline clip_score_l14_30_percent
    """
    given = locals()
    from pocketclip.cli.progress import reporter
    from pocketclip.curate.baselines import BaselineFiles
    from pocketclip.curate.curation import carry_out
    from pocketclip.curate.filter import FilterConfig, filtering
    from pocketclip.files import alone_in
    from pocketclip.stages.cluster import open_engine

    rules = {rule: given[rule] for rule in FilterConfig.model_fields}
    files = BaselineFiles(words, centroids, target)
    if source.startswith(ROWS):
        others = {"out": out, "model": model, "scores": scores, "resume": resume}
        filter_rows_of(
            source, rules, baseline=baseline, files=files, score=score, ids=ids, histogram=histogram, others=others,
            as_json=json_lines,
        )  # fmt: skip
        return
    chosen, written = _rules(rules, baseline, files, score), Written(ids, histogram, scores)
    folder = written.folder(out, chosen)
    open_stage = _measuring(source, chosen, model, device)
    with alone_in(folder, elsewhere=written.option(out)), open_engine(engine, ray_address) as compute:
        with loading(model) if model else nullcontext():
            stage = open_stage()
        with reporter(max_broken_share, stage.num_samples) as shown:
            curation = filtering(stage, open_stage, source, chosen, folder, partial(written.write, source, chosen))
            settings: dict[str, Any] = {"name": name, "samples_per_shard": samples_per_shard, "resume": resume}
            report = carry_out(curation, compute, shown, **settings, dry_run=out is None)
        written.finish(folder, name, only=out is None)
    _show(report, out, name, written, as_json=json_lines)


def _rules(rules: Mapping[str, Any], baseline: str | None, files: "BaselineFiles", score: str | None) -> "FilterConfig":
    """Rules for the samples of a source; a baseline's are among them where they ask no more than a model."""
    from pocketclip.curate.baselines import baseline as filters_of
    from pocketclip.curate.baselines import full_name, refuse_files
    from pocketclip.curate.filter import FilterConfig, given_rules
    from pocketclip.errors import UserError

    if score is not None:
        raise UserError("--score is a column of rows:; of pictures --model says how similar they are.")
    if baseline is None:
        refuse_files(files)
        return FilterConfig.parse(rules, place="pocketclip data filter")
    if (full := full_name(baseline)) in ("no_filter", "text_based") or full.startswith("image_based"):
        raise UserError(f"--baseline {baseline} is for rows:METADATA, the Parquet files of scores; see docs/data.md.")
    (named,) = filters_of(baseline, files)
    return FilterConfig.parse({**named.rules, **given_rules(rules)}, place="pocketclip data filter")


@dataclass(frozen=True)
class Written:
    """Files beside the shards."""

    ids: Path | None
    histogram: Path | None
    scores: Path | None

    def folder(self, out: Path | None, rules: "FilterConfig") -> Path:
        """Where blocks of measured samples lie meanwhile: with the shards, or beside the list of ids."""
        from pocketclip.curate.chosen import check_scores
        from pocketclip.data import ids as id_lists
        from pocketclip.errors import UserError
        from pocketclip.files import make_folder_of
        from pocketclip.report import histogram as drawing

        if self.ids is not None:
            id_lists.check_ending(self.ids)
        if self.histogram is not None:
            drawing.check(self.histogram, rules.model_dump(exclude_defaults=True))
        if self.scores is not None:
            check_scores(self.scores)
        for option, file in vars(self).items():
            if file is not None:
                make_folder_of(file, elsewhere=f"--{option}")
        first = out or self.ids or self.scores
        if first is None:
            raise UserError("Nothing would be written: add --out DIR for shards, or --ids FILE for a list of ids.")
        return out or first.with_name(f"{first.name}.measured")

    def option(self, out: Path | None) -> str:
        """What says where the blocks lie."""
        return "--out" if out is not None else "--ids" if self.ids is not None else "--scores"

    def write(self, place: str, rules: "FilterConfig", signals: "Signals", verdict: "Verdict") -> None:
        """All of them, once it is known what stays."""
        from pocketclip.curate.chosen import chosen_names, signal_histograms, write_scores
        from pocketclip.data import open_source
        from pocketclip.data.ids import write_ids
        from pocketclip.report.histogram import write_histograms

        source: Source = open_source(place, place="SOURCE")
        if self.ids is not None:
            write_ids(self.ids, chosen_names(source, verdict, as_uids=self.ids.suffix == ".npy"))
        if self.scores is not None:
            write_scores(self.scores, source, signals)
        if self.histogram is not None:
            write_histograms(self.histogram, list(signal_histograms(signals, verdict, rules)))

    def finish(self, folder: Path, name: str, *, only: bool) -> None:
        """Without shards the blocks have served; files that an earlier call did not write are not there."""
        from pocketclip.data.shards import clear_unfinished
        from pocketclip.errors import UserError

        if only:
            clear_unfinished(folder, name)
            with suppress(OSError):  # something else lies there
                folder.rmdir()
        for file in (self.ids, self.histogram, self.scores):
            if file is not None and not file.exists():
                raise UserError(f"{file}: not written, since the shards were finished before; filter without --resume.")


def _measuring(source: str, rules: "FilterConfig", model: str | None, device: str) -> "Callable[[], Stage]":
    """How the measuring stage is opened, with a model where a rule needs one."""
    from pocketclip.curate.signals import open_measuring
    from pocketclip.errors import UserError

    if not rules.needs_model:
        if model is not None:
            raise UserError("--model has no effect without --min-similarity or --keep-share.")
        return partial(open_measuring, source)
    if model is None:
        raise UserError("--min-similarity and --keep-share need a model to compare with: add --model MODEL.")
    from pocketclip.models.running.precision import resolve_device
    from pocketclip.run.embedding import open_similarity

    return partial(open_similarity, source, model, str(resolve_device(device)))


def _show(report: "FilterReport", out: Path | None, name: str, written: Written, *, as_json: bool) -> None:
    """Counts to stdout, what each rule dropped and where the shards lie to stderr."""
    for what, dropped in (("images", report.dropped_images), ("captions", report.dropped_captions)):
        for rule, count in dropped.items():
            tell(f"{rule}: {count:,} {what} dropped")
    if bare := report.num_without_caption:
        then = "dropped with those that lost theirs" if "no_caption_left" in report.dropped_images else "not dropped"
        tell(f"{bare:,} of {report.num_images:,} images never had a caption: {then}")
    if out is not None:
        tell_shards(f"{report.num_kept_images:,} samples", out, name, report.num_shards)
    if out is None and (lost := sum(report.dropped_captions.values())):
        tell(f"a list names images, which keep all their captions: the {lost:,} dropped ones go with --out alone")
    if (ids := written.ids) is not None:
        tell(f"{report.num_kept_images:,} ids in {ids}. Train on them with --set data.subset.ids={ids}")
    rows = [
        ["images", f"{report.num_images:,}", f"{report.num_kept_images:,}"],
        ["captions", f"{report.num_captions:,}", f"{report.num_kept_captions:,}"],
    ]
    print_one(report.model_dump(), str(out or ids or written.scores), ["", "read", "kept"], rows, as_json=as_json)
