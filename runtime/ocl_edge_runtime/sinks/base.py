"""What every sink has in common."""

from __future__ import annotations

from abc import abstractmethod

from ocl_edge.masks import Mask
from ocl_edge_runtime.lifetime import ClosedAtExit
from ocl_edge_runtime.session.frames import Frame


class Sink(ClosedAtExit):
    """Where masks go.

    Attributes:
        left_out: masks that it did not take, because it was too slow.
    """

    left_out = 0

    @abstractmethod
    def emit(self, frame: Frame, mask: Mask) -> None:
        """Take the mask of a frame; both are only read."""

    def close(self) -> None:
        """Free what the sink holds; one that writes file by file holds nothing."""
