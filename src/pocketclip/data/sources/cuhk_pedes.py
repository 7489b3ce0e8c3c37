"""CUHK-PEDES: 40,206 pictures of 13,003 people with two sentences each, https://arxiv.org/abs/1702.05729."""

from typing import Literal

from pocketclip.data.sources.people import PeopleSettings


class CuhkPedesSourceConfig(PeopleSettings):
    """`cuhk_pedes:reid_raw.json,imgs,split=test`."""

    kind: Literal["cuhk_pedes"] = "cuhk_pedes"
