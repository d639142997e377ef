"""What the pixels of label files mean: classes as they are, other values, or colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import UsageError
from ocl_edge.images import Colour
from ocl_edge.masks import Mask, ignored_label, mask_dtype

VALUES = 1 << 16
COLOURS = 1 << 24


@dataclass(frozen=True)
class LabelCode:
    """How the pixels of label files become classes.

    Attributes:
        classes: class of each value, from 0 on; other values are left out. None: values are classes.
        colours: class of each colour, in files of colours; other colours are left out.
        ignored: the class of what is left out.
        kept: only these classes count, and are numbered anew. None: all.
    """

    classes: tuple[int, ...] | None = None
    colours: tuple[tuple[Colour, int], ...] = ()
    ignored: int = 255
    kept: tuple[int, ...] | None = None

    @classmethod
    def of_palette(cls, palette: Sequence[Colour], ignored: int) -> LabelCode:
        """Values are classes, and so are places in a palette for its colours; the first of equals wins."""
        places = {colour: place for place, colour in reversed(list(enumerate(palette)))}
        fits = 0 <= ignored < VALUES
        return cls(None, tuple(places.items()), ignored if fits else ignored_label(len(palette)))

    def keeping(self, classes: tuple[int, ...]) -> LabelCode:
        """The same with some of the classes, numbered anew in this order."""
        return replace(self, kept=classes)

    def decode(self, pixels: NDArray[Any]) -> Mask:
        """Values [H, W] or colours uint8 [H, W, 3] -> classes [H, W].

        Raises:
            UsageError: colours, and no class has any.
        """
        if pixels.ndim == 2:
            return pixels if self.classes is None and self.kept is None else self._of_value[pixels]
        if not self.colours:
            raise UsageError(
                "it holds colours: give the classes theirs as 'palette_rgb' in the file of --label-classes"
            )
        numbers = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        return self._of_colour[numbers]

    @cached_property
    def _of_value(self) -> Mask:
        classes = np.arange(VALUES) if self.classes is None else np.array(self.classes)
        table = np.full(VALUES, self.ignored)
        table[: len(classes)] = classes
        return self._numbered_anew(table)

    @cached_property
    def _of_colour(self) -> Mask:
        table = np.full(COLOURS, self.ignored, np.uint16)
        for (red, green, blue), place in self.colours:
            table[(red << 16) + (green << 8) + blue] = place
        return self._numbered_anew(table)

    def _numbered_anew(self, classes: NDArray[Any]) -> Mask:
        if self.kept is not None:
            numbers = np.full(VALUES, self.ignored)
            numbers[list(self.kept)] = np.arange(len(self.kept))
            classes = numbers[classes]
        return classes.astype(mask_dtype(int(classes.max())))


AS_THEY_ARE = LabelCode()
