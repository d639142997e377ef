"""The device of an engine through PyTorch's CUDA, or through pycuda where PyTorch has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ocl_edge.errors import BackendError
from ocl_edge.tensors import Tensor, torch, torch_is_installed
from ocl_edge_runtime.backends.engine_device import Buffer, EngineDevice, Enqueue
from ocl_edge_runtime.backends.tensorrt_pycuda import PyCudaDevice
from ocl_edge_runtime.backends.update_stream import CudaUpdateStream, UpdateStream


class TorchCudaDevice:
    """Tensors of PyTorch are the buffers.

    The engine runs on a stream of its own, ordered by events after and before the caller's
    current stream; TensorRT synchronises the whole device when it is given the default stream.

    Args:
        index: of the GPU.
        on_host: hand outputs out in pinned host memory, complete when `hand_out` returns,
            for a head on the CPU. Otherwise they stay on the device, without a copy, and
            the caller's stream waits for them.
        for_updates: run at low instead of high priority.
    """

    can_capture = True

    def __init__(self, index: int = 0, on_host: bool = True, for_updates: bool = False) -> None:
        if not torch.cuda.is_available():
            raise BackendError(
                f"PyTorch {torch.__version__} has no CUDA here; install a CUDA build of PyTorch, "
                "or pycuda (pip install 'ocl-edge[pycuda]') to run the head on the CPU"
            )
        self._cuda = torch.device("cuda", index)
        self._on_host = on_host
        self.torch_device = torch.device("cpu") if on_host else self._cuda
        priority = 0 if for_updates else -1  # lower numbers go first
        self._stream = torch.cuda.Stream(self._cuda, priority=priority)  # type: ignore[no-untyped-call]
        self.update_stream: UpdateStream = CudaUpdateStream(self._stream)

    def can_bind(self, tensor: Tensor) -> bool:
        return tensor.device == self._cuda

    def allocate(self, shape: Sequence[int]) -> Buffer:
        memory = torch.empty(tuple(shape), device=self._cuda)
        tensor = torch.empty(tuple(shape), pin_memory=True) if self._on_host else memory
        return Buffer(memory.data_ptr(), memory, tensor)

    def upload(self, tensor: Tensor, buffer: Buffer) -> None:
        # on the caller's stream, which `run` waits for; from the host it returns when the source is free
        buffer.memory.copy_(tensor, non_blocking=tensor.device == self._cuda)

    def run(self, enqueue: Enqueue) -> None:
        self._on_own_stream(lambda: enqueue(self._stream.cuda_stream))

    def capture(self, enqueue: Enqueue) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        self._stream.synchronize()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            enqueue(self._stream.cuda_stream)
        return lambda: self._on_own_stream(graph.replay)

    def hand_out(self, buffers: Sequence[Buffer]) -> None:
        if not self._on_host:
            return  # the caller's stream already waits
        with torch.cuda.stream(self._stream):
            for buffer in buffers:
                buffer.tensor.copy_(buffer.memory, non_blocking=True)
        self._stream.synchronize()

    def synchronise(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        """Nothing to do: PyTorch owns the memory."""

    def _on_own_stream(self, work: Callable[[], Any]) -> None:
        current = torch.cuda.current_stream(self._cuda)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)


def open_device(on_host: bool = True, for_updates: bool = False) -> EngineDevice:
    """PyTorch's CUDA where it has one, else pycuda, which hands outputs out on the CPU always.

    Args:
        on_host: of `TorchCudaDevice`.
        for_updates: of it, too.

    Raises:
        BackendError: neither works here.
        MissingExtraError: PyTorch has no CUDA and pycuda is not installed.
    """
    if torch_is_installed() and torch.cuda.is_available():
        return TorchCudaDevice(on_host=on_host, for_updates=for_updates)
    return PyCudaDevice()
