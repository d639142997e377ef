"""TensorRT beside a PyTorch without CUDA: device memory by pycuda, the head on the CPU.

Common on Jetson. The primary context of the GPU is used, not one of pycuda's own, so
that other libraries of the process can share it. Features come back through pinned
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ocl_edge.errors import BackendError, MissingExtraError
from ocl_edge.tensors import Tensor, torch
from ocl_edge_runtime.backends.engine_device import Buffer, Enqueue
from ocl_edge_runtime.backends.update_stream import PyCudaUpdateStream, UpdateStream


class PyCudaDevice:
    """See `EngineDevice`. Inputs and outputs are CPU tensors.

    Raises:
        MissingExtraError: pycuda is not installed.
        BackendError: it finds no usable GPU.
    """

    can_capture = False

    def __init__(self) -> None:
        self.torch_device = torch.device("cpu")
        try:
            import pycuda.driver as driver
        except ImportError as error:
            raise MissingExtraError(
                "pycuda (PyTorch has no CUDA here)", "pycuda", "a TensorRT engine"
            ) from error
        self._driver: Any = driver
        try:
            driver.init()
            self._context = driver.Device(0).retain_primary_context()
            self._context.push()
        except driver.Error as error:
            raise BackendError(f"pycuda cannot use the GPU: {error}") from error
        self._stream = driver.Stream()
        self.update_stream: UpdateStream = PyCudaUpdateStream(self._context)

    def can_bind(self, tensor: Tensor) -> bool:  # noqa: ARG002
        return False

    def allocate(self, shape: Sequence[int]) -> Buffer:
        host = self._driver.pagelocked_empty(tuple(shape), np.float32)
        memory = self._driver.mem_alloc(max(host.nbytes, 1))
        return Buffer(int(memory), memory, torch.from_numpy(host))

    def upload(self, tensor: Tensor, buffer: Buffer) -> None:
        buffer.tensor.copy_(tensor)
        self._driver.memcpy_htod_async(buffer.address, buffer.tensor.numpy(), self._stream)

    def run(self, enqueue: Enqueue) -> None:
        enqueue(self._stream.handle)

    def capture(self, enqueue: Enqueue) -> Callable[[], None]:  # noqa: ARG002
        raise BackendError("pycuda cannot capture CUDA graphs")

    def hand_out(self, buffers: Sequence[Buffer]) -> None:
        for buffer in buffers:
            self._driver.memcpy_dtoh_async(buffer.tensor.numpy(), buffer.address, self._stream)
        self._stream.synchronize()

    def synchronise(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        self._context.pop()
