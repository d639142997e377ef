"""The frames of a source that a replay needs, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ocl_edge.errors import StateError, UsageError
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sources.base import Source
from ocl_edge_runtime.sources.live import LiveSource


class ChosenFrames(Source):
    """Frames of a source by their index, as fast as they can be read.

    Args:
        source: of files, unpaced; closed with this one.
        wanted: indices of the frames, in order.
        tape: the file that names them, for messages.

    Raises:
        UsageError: a camera or stream, whose frames are gone.
    """

    def __init__(self, source: Source, wanted: Sequence[int], tape: Path) -> None:
        if isinstance(source, LiveSource):
            raise UsageError(f"the frames of {source.name} are gone; a replay needs them as files")
        super().__init__(source.on_skip)
        self.total = len(wanted)
        self.files = source.files
        self._source = source
        self._wanted = wanted
        self._tape = tape

    def __iter__(self) -> Iterator[Frame]:
        left = list(self._wanted)[::-1]
        for frame in self._source:
            if self.stopped or not left:
                return
            if frame.index == left[-1]:
                left.pop()
                yield frame
        if left:
            raise StateError(f"{self._tape} names frame {left[-1]}, which the source does not have")

    def close(self) -> None:
        super().close()
        self._source.close()
