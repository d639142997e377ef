"""How two threads share one device: the frame loop's masks first, a worker's updates beside them.

Each has streams of its own. What one hands to the other is ordered by events, on the
device: no thread waits, and masks wait for nothing that an update still has to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ocl_edge.tensors import Tensor, torch


class UpdateStream:
    """Where a worker's updates run. On the CPU there is nothing to order."""

    def mark(self) -> Any:
        """A point after everything that the calling thread has enqueued so far."""
        return None

    @contextmanager
    def work_after(self, point: Any, given: Sequence[Tensor]) -> Iterator[None]:  # noqa: ARG002
        """What the block enqueues, on the worker's thread, runs after a point.

        Args:
            point: from `mark`, on the thread that made ``given``.
            given: what the block reads of the other thread's.
        """
        yield

    def wait_for(self, point: Any) -> None:
        """What the calling thread enqueues from now on runs after a point; the thread goes on at once."""


class CudaUpdateStream(UpdateStream):
    """A stream of PyTorch's, current while the worker works: its copies and its head run there too.

    Args:
        stream: of the worker's engines, of low priority.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._stream.device))
        return event

    @contextmanager
    def work_after(self, point: torch.cuda.Event, given: Sequence[Tensor]) -> Iterator[None]:
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(point)
            for tensor in given:
                if tensor.is_cuda:  # or its memory is used anew while this stream may still read it
                    tensor.record_stream(self._stream)
            yield

    def wait_for(self, point: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self._stream.device).wait_event(point)


class PyCudaUpdateStream(UpdateStream):
    """pycuda hands everything over in host memory, complete; but a thread must have its context."""

    def __init__(self, context: Any) -> None:
        self._context = context

    @contextmanager
    def work_after(self, point: Any, given: Sequence[Tensor]) -> Iterator[None]:  # noqa: ARG002
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()
