"""What every sink has in common."""

from __future__ import annotations

from abc import abstractmethod

from ocl_edge.masks import Mask
from ocl_edge_runtime.lifetime import ClosedAtExit
from ocl_edge_runtime.session.frames import Frame, FrameResult


class Sink(ClosedAtExit):
    """Where masks go.

    Attributes:
        left_out: masks that it did not take, because it was too slow or what it sends to was not there.
        trouble: what went wrong last, in words; None: nothing but that it was too slow.
    """

    left_out = 0
    trouble: str | None = None

    @abstractmethod
    def emit(self, frame: Frame, mask: Mask) -> None:
        """Take the mask of a frame; both are only read."""

    def told(self, frame: Frame, result: FrameResult) -> None:
        """What became of a frame after its mask was out: times, update, opening. Most have no use for it."""

    def close(self) -> None:
        """Free what the sink holds; one that writes file by file holds nothing."""
