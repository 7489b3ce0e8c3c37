"""Where image-text pairs come from: one file a source, all giving samples by number.

`open_source` takes what a user writes, a text as in `written` or a mapping with `kind`. Only `batches` imports torch.
"""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from pocketclip.config import explain, kinds_of, with_registered
from pocketclip.data.source import Sample, Source
from pocketclip.data.sources.aro import AroSourceConfig
from pocketclip.data.sources.coco import CocoSourceConfig, KarpathySourceConfig
from pocketclip.data.sources.cuhk_pedes import CuhkPedesSourceConfig
from pocketclip.data.sources.flickr import FlickrSourceConfig
from pocketclip.data.sources.folder import FolderSourceConfig
from pocketclip.data.sources.hub import HubSourceConfig
from pocketclip.data.sources.icfg_pedes import IcfgPedesSourceConfig
from pocketclip.data.sources.iconify import IconifySourceConfig
from pocketclip.data.sources.nlvr2 import Nlvr2SourceConfig
from pocketclip.data.sources.openmoji import OpenmojiSourceConfig
from pocketclip.data.sources.pedestrians.source import PedestriansSourceConfig
from pocketclip.data.sources.person_table import PersonTableSourceConfig
from pocketclip.data.sources.reinforced import ReinforcedSourceConfig
from pocketclip.data.sources.rstp_reid import RstpReidSourceConfig
from pocketclip.data.sources.scene_pairs import ScenePairsSourceConfig
from pocketclip.data.sources.scenes import ScenesSourceConfig
from pocketclip.data.sources.sugarcrepe import SugarcrepeSourceConfig
from pocketclip.data.sources.table import TableSourceConfig
from pocketclip.data.sources.webdataset import WebdatasetSourceConfig
from pocketclip.data.sources.winogavil import WinogavilSourceConfig
from pocketclip.data.sources.winoground import WinogroundSourceConfig
from pocketclip.data.splits import hold_out
from pocketclip.data.written import split_text
from pocketclip.errors import UserError

Sources = (
    WebdatasetSourceConfig
    | FolderSourceConfig
    | TableSourceConfig
    | CocoSourceConfig
    | KarpathySourceConfig
    | FlickrSourceConfig
    | HubSourceConfig
    | OpenmojiSourceConfig
    | IconifySourceConfig
    | ScenesSourceConfig
    | Nlvr2SourceConfig
    | ScenePairsSourceConfig
    | ReinforcedSourceConfig
    | SugarcrepeSourceConfig
    | WinogroundSourceConfig
    | WinogavilSourceConfig
    | AroSourceConfig
    | CuhkPedesSourceConfig
    | IcfgPedesSourceConfig
    | RstpReidSourceConfig
    | PersonTableSourceConfig
    | PedestriansSourceConfig
)
"""The registry: a new kind of source is a file in `sources/`, and its config here."""
if not TYPE_CHECKING:
    Sources = with_registered(Sources, "pocketclip.sources")


def split_source_text(text: Any) -> Any:
    """What a user writes for a source as a mapping, see `split_text`; anything but a text is passed on."""
    if not isinstance(text, str):
        return text
    try:
        return split_text(text, kinds_of(Sources))
    except UserError as error:
        raise ValueError(str(error)) from error


SourceConfig = Annotated[Sources, Field(discriminator="kind"), BeforeValidator(split_source_text)]


def open_source(spec: Any, *, place: str = "source") -> Source:
    """Open what a user wrote: a text such as `folder:photos`, or a mapping with `kind`; errors name it by `place`."""
    try:
        config = TypeAdapter[Sources](SourceConfig).validate_python(spec)
    except ValidationError as error:
        raise UserError(explain(error, place, SourceConfig).replace(f"{place}: (whole): ", f"{place}: ")) from None
    return config.open()


__all__ = ["Sample", "Source", "SourceConfig", "hold_out", "open_source", "split_source_text"]
