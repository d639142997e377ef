"""The classes of labels, and how a network's classes map to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.errors import UsageError
from ocl_edge.given_files import read_json, reason_of
from ocl_edge.masks import MOST_CLASSES, ignored_label
from ocl_edge.scoring.metrics import ConfusionMatrix

IGNORED = 255
LARGEST_IGNORED = 1 << 31
MOST_BYTES = 16 << 20
MOST_LABELS = MOST_CLASSES
UNREACHED = (160, 160, 160)


@dataclass(frozen=True)
class LabelSpace:
    """The classes of the labels.

    Attributes:
        names: of the classes 0 to ``len(names) - 1``.
        ignore: label value that is left out.
        class_map: predicted class -> label class, None for the same classes; a prediction
            that maps outside the classes is wrong everywhere.
        predicted_too: a class that is predicted and never labelled counts, as 0.
    """

    names: tuple[str, ...]
    ignore: int
    class_map: tuple[int, ...] | None
    predicted_too: bool = False

    def matrix(self) -> ConfusionMatrix:
        """An empty confusion matrix of these classes."""
        class_map = None if self.class_map is None else np.array(self.class_map)
        return ConfusionMatrix(len(self.names), self.ignore, class_map, self.predicted_too)


def read_label_space(manifest: Manifest, label_map: Path | None, label_classes: Path | None) -> LabelSpace:
    """The label classes for a bundle.

    Args:
        manifest: of the bundle; without files its own classes are the labels', ignored is `ignored_label`.
        label_map: JSON list of a label class for every class of the network, or an object
            with one such list under a key that starts with ``to_`` or is ``map``.
        label_classes: JSON object with ``classes`` (names) and ``ignore_index``; without a map
            there must be as many as the network has.

    Raises:
        UsageError: a file cannot be read or makes no sense, the map has not one entry a class, or
            other classes come without a map.
    """
    mapped = _read_map(label_map, len(manifest.classes)) if label_map else None
    if label_classes:
        names, ignore = _read_classes(label_classes)
        if mapped is None and len(names) != len(manifest.classes):
            raise UsageError(
                f"{label_classes} has {len(names)} classes and the network {len(manifest.classes)}: "
                "--label-map must say which is which"
            )
        return LabelSpace(names, ignore, mapped)
    if mapped is not None:
        names = tuple(f"label_{index}" for index in range(max(mapped) + 1))
        return LabelSpace(names, ignored_label(max(mapped)), mapped)
    return LabelSpace(tuple(c.name for c in manifest.classes), ignored_label(len(manifest.classes)), None)


def read_label_palette(
    manifest: Manifest, space: LabelSpace, label_classes: Path | None
) -> list[tuple[int, int, int]]:
    """RGB of every label class: of the file's ``palette_rgb``, else of the network's class that maps there.

    Label classes that no class of the network maps to are grey.

    Raises:
        UsageError: the file's palette has not one colour (three numbers, 0 to 255) a class.
    """
    content = _read_json(label_classes) if label_classes else {}
    if "palette_rgb" in content:
        palette = content["palette_rgb"]
        if (
            not isinstance(palette, list)
            or len(palette) != len(space.names)
            or not all(map(_is_colour, palette))
        ):
            raise UsageError(f"{label_classes}: 'palette_rgb' must have one [R, G, B] a class, 0 to 255")
        return [tuple(colour) for colour in palette]
    predicted = range(len(manifest.classes)) if space.class_map is None else space.class_map
    colours = {label: c.colour for label, c in reversed(list(zip(predicted, manifest.classes, strict=True)))}
    return [colours.get(label, UNREACHED) for label in range(len(space.names))]


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(v, int) and 0 <= v <= 255 for v in value)
    )


def _read_classes(path: Path) -> tuple[tuple[str, ...], int]:
    content = _read_json(path)
    names = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(names, list) or not 0 < len(names) <= MOST_LABELS:
        raise UsageError(
            f"{path}: expected an object with 'classes' (1 to {MOST_LABELS} names) and 'ignore_index'"
        )
    ignore = content.get("ignore_index", ignored_label(len(names)))
    if type(ignore) is not int or abs(ignore) > LARGEST_IGNORED:
        raise UsageError(f"{path}: 'ignore_index' must be a whole number, got {ignore!r}")
    return tuple(map(str, names)), ignore


def _read_map(path: Path, classes: int) -> tuple[int, ...]:
    content = _read_json(path)
    if isinstance(content, dict):
        keys = [key for key in content if key == "map" or key.startswith("to_")]
        content = content[keys[0]] if len(keys) == 1 else None
    if not isinstance(content, list) or not all(type(v) is int and 0 <= v <= MOST_CLASSES for v in content):
        raise UsageError(f"--label-map {path}: expected a list of label classes (0 to {MOST_CLASSES})")
    if len(content) != classes:
        raise UsageError(f"--label-map {path} has {len(content)} entries, the network has {classes} classes")
    return tuple(content)


def _read_json(path: Path) -> Any:
    try:
        return read_json(path, MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}") from error
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
