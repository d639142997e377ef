"""Where an engine runs: memory, the stream, and captured graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ocl_edge.tensors import Tensor, torch
from ocl_edge_runtime.backends.update_stream import UpdateStream

Enqueue = Callable[[int], None]
"""Enqueues work on the stream of this handle."""


@dataclass(frozen=True)
class Buffer:
    """Device memory of one tensor.

    Attributes:
        address: in device memory.
        memory: what holds it; freed with the buffer.
        tensor: what a caller reads: that memory itself, or its copy on the host.
    """

    address: int
    memory: Any
    tensor: Tensor


class EngineDevice(Protocol):
    """What the TensorRT backend needs of a device. Used from one thread at a time."""

    torch_device: torch.device
    """Where outputs are handed out."""
    can_capture: bool
    update_stream: UpdateStream
    """For a worker whose backend runs on this device."""

    def can_bind(self, tensor: Tensor) -> bool:
        """Whether the engine can read this tensor where it lies."""

    def allocate(self, shape: Sequence[int]) -> Buffer:
        """Uninitialised float32 memory, alive as long as the buffer."""

    def upload(self, tensor: Tensor, buffer: Buffer) -> None:
        """Copy into a buffer, in order with `run`. The source may change afterwards."""

    def run(self, enqueue: Enqueue) -> None:
        """Enqueue after everything that the caller has enqueued, and let the caller's later work wait."""

    def capture(self, enqueue: Enqueue) -> Callable[[], None]:
        """Record what ``enqueue`` does as a CUDA graph; call the result instead of `run`."""

    def hand_out(self, buffers: Sequence[Buffer]) -> None:
        """Make the tensors of these buffers readable."""

    def synchronise(self) -> None:
        """Wait for everything that `run` enqueued."""

    def close(self) -> None:
        """Free what the device holds; nothing is running."""
