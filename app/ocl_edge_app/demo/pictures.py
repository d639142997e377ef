"""Pictures of a comparison: labelled panels side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ocl_edge.masks import Mask
from ocl_edge_app.demo.comparison import Comparison
from ocl_edge_app.demo.world.classes import PALETTE
from ocl_edge_app.demo.world.drive import STRETCHES

Panel = tuple[str, NDArray[np.uint8]]
"""A caption, and a picture uint8 [H, W, 3] RGB."""

GAP = 8
CAPTION = 28
FOOTER = 30
FONT_SIZE = 15
BACKGROUND, INK, DIM, MARK = (20, 22, 26), (240, 240, 240), (80, 85, 95), (255, 176, 0)


def colourise(mask: Mask) -> NDArray[np.uint8]:
    """Class indices [H, W] -> colours uint8 [H, W, 3]."""
    return np.array(PALETTE, np.uint8)[mask]


def side_by_side(panels: Sequence[Panel], footer: int = 0) -> Image.Image:
    """Panels of one size in a row, captions above, room for a footer below; even in both sides."""
    height, width = panels[0][1].shape[:2]
    size = (len(panels) * (width + GAP) + GAP, CAPTION + height + GAP + footer)
    picture = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_SIZE)
    for index, (caption, pixels) in enumerate(panels):
        left = GAP + index * (width + GAP)
        draw.text((left, CAPTION // 2), caption, INK, font, anchor="lm")
        picture.paste(Image.fromarray(pixels), (left, CAPTION))
    return picture


def poster(comparison: Comparison, index: int) -> Image.Image:
    """Image, frozen and adapted mask of one frame."""
    return side_by_side(_panels(comparison, index)[:3])


def video_pictures(
    comparison: Comparison, on_frame: Callable[[str], None] = lambda _: None
) -> Iterator[NDArray[np.uint8]]:
    """Image, frozen, adapted and truth of every frame, with its place on the drive: uint8 [H, W, 3].

    ``on_frame`` is called after each with the name of its stretch.
    """
    for index in range(len(comparison.frames)):
        picture = side_by_side(_panels(comparison, index), FOOTER)
        _draw_drive(picture, comparison, index)
        yield np.asarray(picture)
        on_frame(comparison.frames[index].stretch)


def _panels(comparison: Comparison, index: int) -> list[Panel]:
    frame = comparison.frames[index]
    masks = [
        (f"{name}, mIoU {100 * score.frame_miou[index]:.0f} %", colourise(score.results[index].mask))
        for name, score in comparison.scores.items()
    ]
    return [(f"image: {frame.stretch}", frame.image), *masks, ("truth", colourise(frame.labels))]


def _draw_drive(picture: Image.Image, comparison: Comparison, index: int) -> None:
    """The stretches as a bar along the bottom, filled as far as the drive has come."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_SIZE - 2)
    width, bottom = picture.width - 2 * GAP, picture.height - GAP
    part = width / len(STRETCHES)
    done = GAP + width * (index + 1) / len(comparison.frames)
    draw.rectangle((GAP, bottom - 3, GAP + width, bottom), DIM)
    draw.rectangle((GAP, bottom - 3, done, bottom), MARK)
    for number, name in enumerate(STRETCHES):
        here = name == comparison.frames[index].stretch
        place = (GAP + number * part, bottom - 6)
        draw.text(place, name, MARK if here else INK, font, anchor="ls")
