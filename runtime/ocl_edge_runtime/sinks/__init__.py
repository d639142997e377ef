"""Where masks go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ocl_edge.bundle import Manifest
from ocl_edge.errors import UsageError
from ocl_edge_runtime.frames import Frame
from ocl_edge_runtime.sinks.files import MaskSink, OverlaySink


class Sink(Protocol):
    def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
        """Take the mask of a frame; both are only read."""


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
    kind, colon, directory = text.partition(":")
    if kind not in SINKS or not colon or not directory:
        raise UsageError(f"--sink {text!r}: expected {' or '.join(f'{name}:DIR' for name in SINKS)}")
    return SINKS[kind](Path(directory), manifest)
