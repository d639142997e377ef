"""Frames of an evaluation: image, truth, masks, and what adaptation changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ocl_edge.errors import FrameError
from ocl_edge.images import Colour
from ocl_edge.masks import MOST_CLASSES, Mask
from ocl_edge_app.evaluation.labelled import LabelSpace
from ocl_edge_app.evaluation.summary import Group
from ocl_edge_app.pictures import mask_from_text, mask_uri, photo_uri, shrunk
from ocl_edge_app.report.evaluated import Evaluated
from ocl_edge_app.report.page import Example, Examples, Picture

OUTSIDE = MOST_CLASSES
FIXED, BROKEN, BOTH_WRONG, BOTH_RIGHT, UNLABELLED = range(5)
CHANGE_COLOURS: list[Colour] = [(60, 160, 240), (230, 110, 30), (90, 96, 104), (222, 226, 230), (20, 24, 28)]
EXAMPLE_NOTE = "Frames at even distances, chosen before anything ran. Percent: mIoU of this one frame."
CHANGE_NOTE = (
    "Changed, in percent of the labelled pixels: blue, fixed (wrong when frozen, right when adapted); "
    "orange, broken; light grey, right in both; dark grey, wrong in both; black, no label."
)


def example_block(evaluated: Evaluated, stream: str, groups: Sequence[Group]) -> Examples | None:
    """Image, labels and masks of the frames whose masks the passes kept."""
    pair = evaluated.compared(groups)
    shown = [groups[index] for index in pair] if pair else list(groups[:2])
    kept = [{example.index: example for example in group.last_rounds[0].examples} for group in shown]
    examples, seen = [], set[int]()
    for index in sorted(set.intersection(*(set(masks) for masks in kept))):
        try:
            image, labels = evaluated.frames.read(index)
        except FrameError:
            continue
        image, truth = evaluated.streams[stream].apply(image, index), shrunk(labels)
        masks = [_as_labels(evaluated.space, mask_from_text(each[index].mask)) for each in kept]
        pictures = [Picture("image", photo_uri(image)), Picture("truth", _picture(evaluated, truth))]
        for group, each, mask in zip(shown, kept, masks, strict=True):
            miou = each[index].miou
            said = "no label" if miou is None else f"{miou:.1f} %"
            pictures.append(Picture(evaluated.label(group), _picture(evaluated, mask), said))
        if pair:
            pictures.append(changed_pixels(evaluated.space, truth, *masks))
        seen |= {int(value) for pixels in (truth, *masks) for value in np.unique(pixels)}
        examples.append(Example(f"Frame {index}, {evaluated.frames.pairs[index][0].name}", pictures))
    if not examples:
        return None
    classes = {
        name: colour
        for value, (name, colour) in enumerate(zip(evaluated.space.names, evaluated.palette, strict=True))
        if value in seen
    }
    return Examples(examples, classes, f"{EXAMPLE_NOTE} {CHANGE_NOTE}" if pair else EXAMPLE_NOTE)


def changed_pixels(space: LabelSpace, truth: Mask, before: Mask, now: Mask) -> Picture:
    """Which pixels became right or wrong; class maps uint8 [H, W] of one size, in the label space."""
    was, is_ = before == truth, now == truth
    change = np.select(
        [(truth == space.ignore) | (truth >= len(space.names)), is_ & ~was, was & ~is_, was & is_],
        [UNLABELLED, FIXED, BROKEN, BOTH_RIGHT],
        BOTH_WRONG,
    ).astype(np.uint8)
    labelled = max(1, int((change != UNLABELLED).sum()))
    fixed, broken = (100 * int((change == kind).sum()) / labelled for kind in (FIXED, BROKEN))
    return Picture("changed", mask_uri(change, CHANGE_COLOURS), f"{fixed:.1f} % fixed, {broken:.1f} % broken")


def _as_labels(space: LabelSpace, mask: Mask) -> Mask:
    """Predicted classes -> label classes; `OUTSIDE` for what maps to none."""
    if space.class_map is None:
        return mask
    table = np.full(MOST_CLASSES + 1, OUTSIDE, np.uint16)
    table[: len(space.class_map)] = [v if v < len(space.names) else OUTSIDE for v in space.class_map]
    labels: Mask = table[mask]
    return labels


def _picture(evaluated: Evaluated, mask: Mask) -> str:
    return mask_uri(mask, evaluated.palette)
