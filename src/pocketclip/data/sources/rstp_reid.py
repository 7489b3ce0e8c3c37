"""RSTPReid: 20,505 pictures of 4,101 people with two sentences each, https://arxiv.org/abs/2109.05534."""

from typing import ClassVar, Literal

from pocketclip.data.sources.people import PeopleSettings


class RstpReidSourceConfig(PeopleSettings):
    """`rstp_reid:data_captions.json,imgs,split=test`."""

    image_key: ClassVar[str] = "img_path"
    kind: Literal["rstp_reid"] = "rstp_reid"
