"""Where image-text pairs come from: one file a source, all giving samples by number.

`open_source` takes what a user writes, `KIND:PLACE` or a mapping with `kind`. Only `batches` imports torch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from pocketclip.config import explain, kinds_of, with_registered
from pocketclip.data.source import Sample, Source
from pocketclip.data.sources.coco import CocoSourceConfig, KarpathySourceConfig
from pocketclip.data.sources.flickr import FlickrSourceConfig
from pocketclip.data.sources.folder import FolderSourceConfig
from pocketclip.data.sources.hub import HubSourceConfig
from pocketclip.data.sources.nlvr2 import Nlvr2SourceConfig
from pocketclip.data.sources.openmoji import OpenmojiSourceConfig
from pocketclip.data.sources.reinforced import ReinforcedSourceConfig
from pocketclip.data.sources.scene_pairs import ScenePairsSourceConfig
from pocketclip.data.sources.scenes import ScenesSourceConfig
from pocketclip.data.sources.table import TableSourceConfig
from pocketclip.data.sources.webdataset import WebdatasetSourceConfig
from pocketclip.data.splits import hold_out
from pocketclip.errors import UserError, unknown_choice

Sources = (
    WebdatasetSourceConfig
    | FolderSourceConfig
    | TableSourceConfig
    | CocoSourceConfig
    | KarpathySourceConfig
    | FlickrSourceConfig
    | HubSourceConfig
    | OpenmojiSourceConfig
    | ScenesSourceConfig
    | Nlvr2SourceConfig
    | ScenePairsSourceConfig
    | ReinforcedSourceConfig
)
"""The registry: a new kind of source is a file in `sources/`, and its config here."""
if not TYPE_CHECKING:
    Sources = with_registered(Sources, "pocketclip.sources")


def split_source_text(text: Any) -> Any:
    """What a user writes for a source as a mapping, see `split_text`; anything but a text is passed on."""
    return split_text(text, kinds_of(Sources)) if isinstance(text, str) else text


def split_text(text: str, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
    """`KIND:PLACE[,PLACE][,key=value]` as a mapping; a config's `positional` names the settings that need no key.

    An unknown kind or setting is a ValueError, and so are more places than the kind takes.
    """
    kind, _, rest = text.partition(":")
    if kind not in kinds:
        raise ValueError(str(unknown_choice("kind of source", kind, kinds)))
    values: dict[str, Any] = {"kind": kind}
    positional = list(kinds[kind].positional)
    for part in rest.split(",") if rest else []:
        key, equals, value = part.partition("=")
        if equals and key in values:
            raise ValueError(f"'{key}' is given twice")
        if equals and key in kinds[kind].model_fields:
            values[key] = value
            positional = [name for name in positional if name != key]
        elif equals and key.isidentifier():
            known = [name for name in kinds[kind].model_fields if name != "kind"]
            raise ValueError(str(unknown_choice(f"setting of {kind}", key, known)))
        elif positional:
            values[positional.pop(0)] = part
        else:
            raise ValueError(f"'{part}' is one place too many; {kind} takes {', '.join(kinds[kind].positional)}")
    return values


SourceConfig = Annotated[Sources, Field(discriminator="kind"), BeforeValidator(split_source_text)]


def open_source(spec: Any, *, place: str = "source") -> Source:
    """Open what a user wrote: a text such as `folder:photos`, or a mapping with `kind`; errors name it by `place`."""
    try:
        config = TypeAdapter[Sources](SourceConfig).validate_python(spec)
    except ValidationError as error:
        raise UserError(explain(error, place, SourceConfig)) from None
    return config.open()


__all__ = ["Sample", "Source", "SourceConfig", "hold_out", "open_source", "split_source_text", "split_text"]
