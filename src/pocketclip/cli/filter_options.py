"""Options of `pocketclip data filter`."""

from pathlib import Path
from typing import Annotated

import typer

from pocketclip.cli.options import MODEL_HELP

FilterSource = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="KIND:PLACE as everywhere, or rows:PLACE for Parquet files of scored rows, of which no picture is opened.",
        show_default=False,
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the shards; may be left out with --ids.")]
Ids = Annotated[
    Path | None,
    typer.Option("--ids", metavar="FILE", help="Write the ids of what stays: .txt, .parquet, or DataComp's .npy."),
]
HistogramFile = Annotated[
    Path | None,
    typer.Option("--histogram", metavar="FILE", help="Draw what the rules go by, with their cuts: .svg or .png."),
]
Scores = Annotated[
    Path | None,
    typer.Option(
        "--scores", metavar="FILE.parquet", help="Write what was measured of each image, for data.subset.scores."
    ),
]
MinImageSide = Annotated[int | None, typer.Option(help="Drop images whose shorter side has fewer pixels.")]
MaxAspectRatio = Annotated[float | None, typer.Option(help="Longer over shorter side; drop images above.")]
DropDuplicateImages = Annotated[
    bool, typer.Option("--drop-duplicate-images", help="Keep the first of files with the same bytes.")
]
MinCaptionWords = Annotated[int | None, typer.Option(help="Drop captions of fewer words.")]
MaxCaptionWords = Annotated[int | None, typer.Option(help="Drop captions of more words.")]
MinCaptionLetters = Annotated[int | None, typer.Option(help="Drop captions of fewer signs.")]
Language = Annotated[
    str | None, typer.Option(metavar="en", help="Drop captions that are not English, by letters and frequent words.")
]
DropDuplicateCaptions = Annotated[
    bool, typer.Option("--drop-duplicate-captions", help="Keep the first of captions with the same text.")
]
MinSimilarity = Annotated[float | None, typer.Option(help="Drop captions that are less similar.")]
KeepShare = Annotated[float | None, typer.Option(help="Keep this share of captions, the most similar.")]
FilterModel = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help=f"To compare captions with their images. {MODEL_HELP}")
]
Score = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Of rows: how similar they are, in place of a model.")
]
Baseline = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="DataComp's filters by name, such as clip_score_l14_30_percent."),
]
Words = Annotated[Path | None, typer.Option(metavar="FILE", help="Names of things, for the baseline text_based.")]
Centroids = Annotated[Path | None, typer.Option(metavar="FILE", help="Of clusters, for the baseline image_based.")]
Target = Annotated[Path | None, typer.Option(metavar="FILE", help="Embeddings to be near to, for image_based.")]
