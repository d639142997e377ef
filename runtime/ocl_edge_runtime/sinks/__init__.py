"""Where masks go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.errors import UsageError
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.files import MaskSink, OverlaySink

__all__ = ["SINKS", "Sink", "open_sink", "open_sinks", "parse_sink"]

MOST_LINKS = 40
"""From one to the next, as many as Linux follows."""

SINKS: dict[str, Callable[[Path, Manifest], Sink]] = {
    "masks": lambda directory, _manifest: MaskSink(directory),
    "overlay": lambda directory, manifest: OverlaySink(directory, [c.colour for c in manifest.classes]),
}


def open_sink(text: str, manifest: Manifest) -> Sink:
    """A sink from ``KIND:DIR``.

    Raises:
        UsageError: unknown kind, or no directory named.
        OutputError: the directory cannot be made.
    """
    kind, directory = parse_sink(text)
    return SINKS[kind](directory, manifest)


def open_sinks(texts: Sequence[str], manifest: Manifest, files: Sequence[Path]) -> list[Sink]:
    """Several sinks for the frames of these files; nothing is made where one of them is refused.

    Raises:
        UsageError: as `open_sink`; or something would be overwritten: two sinks share a
            directory, a sink writes among the frames, or two frames have the same name.
        OutputError: a directory cannot be made.
    """
    directories = [parse_sink(text)[1].resolve() for text in texts]
    sources = {place for file in files if texts for place in _places_of(file)}
    for index, (text, directory) in enumerate(zip(texts, directories, strict=True)):
        if directory in sources:
            raise UsageError(f"--sink {text}: the frames lie there and would be overwritten; name another")
        if directory in directories[:index]:
            raise UsageError(f"--sink {text}: another sink writes there already; name another directory")
    named: dict[str, Path] = {}
    for file in files if texts else ():
        other = named.setdefault(file.stem, file)
        if other is not file:
            raise UsageError(
                f"{other} and {file} would both be written as {file.stem}.png; run them one after the other"
            )
    return [open_sink(text, manifest) for text in texts]


def _places_of(file: Path) -> Iterator[Path]:
    """The directories of a file, and of everything that it leads through where it is a link."""
    for _ in range(MOST_LINKS):
        yield file.parent.resolve()
        if not file.is_symlink():
            return
        file = file.parent / os.readlink(file)


def parse_sink(text: str) -> tuple[str, Path]:
    """``KIND:DIR`` -> kind and directory.

    Raises:
        UsageError: unknown kind, or no directory named.
    """
    kind, colon, directory = text.partition(":")
    if kind not in SINKS or not colon or not directory:
        raise UsageError(f"--sink {text!r}: expected {' or '.join(f'{name}:DIR' for name in SINKS)}")
    return kind, Path(directory)
