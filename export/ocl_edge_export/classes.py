"""Names and colours of the classes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ocl_edge.bundle.manifest_parts import ClassSpec
from ocl_edge.errors import UsageError
from ocl_edge.given_files import parse_json, read_given

MOST_BYTES = 16 << 20
LONGEST_NAME = 200

CITYSCAPES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)
"""The 19 train ids of Cityscapes (Cordts et al., CVPR 2016) with their usual colours."""

BACKGROUND = ("background", (0, 0, 0))


def default_classes(count: int, cityscapes: bool) -> tuple[ClassSpec, ...]:
    """Cityscapes names where they fit (19, or 20 with background), else ``class_0`` and so on."""
    known = (*CITYSCAPES, BACKGROUND)[:count] if cityscapes and count in (19, 20) else ()
    if known:
        return tuple(ClassSpec(name=name, colour=colour) for name, colour in known)
    return name_classes([f"class_{index}" for index in range(count)], None)


def read_classes(path: Path, count: int) -> tuple[ClassSpec, ...]:
    """Read ``--classes FILE``.

    JSON: a list of names, or ``{"classes": [names], "palette_rgb": [[r, g, b], ...]}``
    (the palette is optional). Any other suffix: one name a line.

    Raises:
        UsageError: unreadable, or not ``count`` names.
    """
    try:
        text = read_given(path, MOST_BYTES).decode()
        content: Any = (
            parse_json(text.encode())
            if path.suffix == ".json"
            else [n.strip() for n in text.splitlines() if n.strip()]
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"--classes {path} cannot be read: {error}") from error
    names = content.get("classes") if isinstance(content, dict) else content
    palette = content.get("palette_rgb") if isinstance(content, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"--classes {path}: expected a list of names")
    if len(names) != count:
        raise UsageError(f"--classes {path} names {len(names)} classes, the network has {count}")
    return name_classes(names, palette)


def name_classes(names: list[str], palette: Any) -> tuple[ClassSpec, ...]:
    """Classes with the palette's colours, or with evenly spread hues where there is none.

    Raises:
        UsageError: a name occurs twice, or is no text of a line or so; the palette has another length or is
            not made of RGB triples.
    """
    for index, name in enumerate(names):
        if not 0 < len(name) <= LONGEST_NAME or not _is_unicode(name):
            raise UsageError(
                f"class {index} is called {name[:LONGEST_NAME]!r}, expected 1 to {LONGEST_NAME} characters"
            )
    if (twice := repeated_name(names)) is not None:
        raise UsageError(f"two classes are called {twice!r}; every class needs a name of its own")
    if palette is None:
        palette = [
            [round(255 * c) for c in colorsys.hsv_to_rgb(i * 0.618 % 1, 0.65, 0.95)]
            for i in range(len(names))
        ]
    if not isinstance(palette, list) or len(palette) != len(names) or not all(map(_is_colour, palette)):
        entries = f"{len(palette)} entries" if isinstance(palette, list) else f"a {type(palette).__name__}"
        raise UsageError(f"expected a palette of {len(names)} RGB colours (0 to 255), got {entries}")
    return tuple(ClassSpec(name=n, colour=(c[0], c[1], c[2])) for n, c in zip(names, palette, strict=True))


def repeated_name(names: Sequence[str]) -> str | None:
    """The first name that occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(type(v) is int and 0 <= v <= 255 for v in value)
    )
