"""Holding out a part of a source, such that no picture is on both sides."""

import numpy as np
import numpy.typing as npt

from pocketclip.data.identities import NO_IDENTITY, find_identities
from pocketclip.data.identity import first_equal, perceptual_hashes, picture_ids
from pocketclip.data.pictures.near_pairs import near_pairs
from pocketclip.data.source import Source, Subset
from pocketclip.errors import UserError
from pocketclip.stages.watch import SILENT, Watch

Numbers = npt.NDArray[np.int64]
NEARLY_SAME = 4
"""Bits in which the hashes of one photo saved anew may differ; those of two photos rarely differ in so few."""
LARGEST_GROUP = 0.1
"""Share of a source above which pictures that look alike are taken for a kind of picture, not for one."""


def hold_out(source: Source, share: float, watch: Watch = SILENT) -> tuple[Source, Source]:
    """The larger part, and a share of the images held out for validation, the same ones on every machine.

    Equal and nearly equal pictures stay together, and so do those of one identity. A picture's place depends on its
    number alone, so both parts are spread over the whole source. At least one image is held out, and at most about half
    of them; a source of fewer than 4 different pictures is a UserError.
    """
    groups = picture_groups(source, watch)
    if "identities" in source.gives:
        groups = _with_identities(source, groups)
    rest, held = held_out_numbers(source.name, groups, share, "different image(s)", "data.val a source")
    return Subset(source, rest, f"{source.name} (training part)"), Subset(source, held, f"{source.name} (held out)")


def picture_groups(source: Source, watch: Watch = SILENT) -> Numbers:
    """(N,) of each sample the first one of its group of equal or nearly equal pictures.

    Near are files of one photo at another size or quality, by their perceptual hashes; drawings are compared by
    their bytes alone, and so are pictures that would be in a group of more than a tenth of the source.
    """
    same = first_equal(picture_ids(source, watch))
    if source.drawn or len(source) < 2:
        return same
    hashes, readable = perceptual_hashes(source, watch)
    chosen = np.flatnonzero(readable & (same == np.arange(len(same))))
    unique, one_of, of_each = np.unique(hashes[chosen], return_index=True, return_inverse=True)
    equal = np.stack([np.arange(len(chosen)), one_of[of_each]], axis=1)
    near = one_of[np.stack(near_pairs(unique, NEARLY_SAME), axis=1)]
    links = np.concatenate([equal, near])
    joined = _components(len(same), chosen[links])
    sizes = np.bincount(joined, minlength=len(same))
    alike = np.where(sizes[joined] > max(2, LARGEST_GROUP * len(same)), np.arange(len(same)), joined)
    return np.asarray(alike[same], np.int64)


def _with_identities(source: Source, groups: Numbers) -> Numbers:
    """(N,) groups of pictures, joined where they show the same."""
    shown = find_identities(source).values
    told = np.flatnonzero(shown != NO_IDENTITY)
    if not len(told):
        return groups
    _, first, of_each = np.unique(shown[told], return_index=True, return_inverse=True)
    alike = np.stack([told, told[first[of_each]]], axis=1)
    return _components(len(groups), np.concatenate([np.stack([np.arange(len(groups)), groups], axis=1), alike]))


def _components(count: int, links: Numbers) -> Numbers:
    """(N,) the lowest member of each one's group, where links (L, 2) join two."""
    lowest = np.arange(count)
    while True:  # as many rounds as the longest chain needs halvings
        before = lowest.copy()
        np.minimum.at(lowest, links[:, 0], before[links[:, 1]])
        np.minimum.at(lowest, links[:, 1], before[links[:, 0]])
        lowest = lowest[lowest]
        if (lowest == before).all():
            return lowest


def held_out_numbers(name: str, groups: Numbers, share: float, things: str, instead: str) -> tuple[Numbers, Numbers]:
    """Numbers that stay and that are held out, both ascending, whole `groups` (N,) at a time; see `hold_out`.

    Where there are too few groups, the error tells `name` and the `things` counted, and says to give `instead`.
    """
    _, of_each, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 4:
        raise UserError(f"{name}: {len(sizes)} {things} are too few to hold some out; give {instead}.")
    num_held = min(len(groups) // 2, max(1, round(len(groups) * share)))
    order = np.random.default_rng(0).permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    is_held = np.zeros(len(sizes), np.bool_)
    is_held[order[before < num_held]] = True
    is_held[order[-1]] = False  # one group at least stays
    return np.flatnonzero(~is_held[of_each]), np.flatnonzero(is_held[of_each])
