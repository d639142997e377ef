"""Where frames come from."""

from collections.abc import Iterable, Iterator

from ocl_edge.errors import FrameError
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources.base import Source
from ocl_edge_runtime.sources.images import ImageSource
from ocl_edge_runtime.sources.noise import NoiseSource
from ocl_edge_runtime.sources.opening import SourceOptions, open_source
from ocl_edge_runtime.sources.paced import PacedSource

__all__ = ["ImageSource", "NoiseSource", "PacedSource", "Source", "SourceOptions", "open_source", "repeated"]


def repeated(source: Iterable[Frame]) -> Iterator[Frame]:
    """The frames of a source over and over, without end.

    Raises:
        FrameError: a pass gave no frame.
    """
    while True:
        empty = True
        for frame in source:
            empty = False
            yield frame
        if empty:
            raise FrameError("none of the frames could be used")
