"""A test double of pycuda.driver: device memory is host memory at an address of its own."""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import numpy as np

from tests.doubles import tensorrt as fake_tensorrt


class Allocation:
    def __init__(self, size: int) -> None:
        self.memory = ctypes.create_string_buffer(size)

    def __int__(self) -> int:
        return ctypes.addressof(self.memory)


class Context:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def push(self) -> None:
        self.log.append("push")

    def pop(self) -> None:
        self.log.append("pop")


class Stream:
    handle = fake_tensorrt.STREAM

    def synchronize(self) -> None:
        pass


def make_module() -> ModuleType:
    """``module.log`` tells what happened to contexts."""
    module: Any = ModuleType("pycuda.driver")
    module.log = []

    class Device:
        def __init__(self, index: int) -> None:
            pass

        def retain_primary_context(self) -> Context:
            module.log.append("primary")
            return Context(module.log)

    def memcpy_htod_async(address: int, source: np.ndarray[Any, Any], stream: Stream) -> None:
        ctypes.memmove(address, source.ctypes.data, source.nbytes)

    def memcpy_dtoh_async(target: np.ndarray[Any, Any], address: int, stream: Stream) -> None:
        ctypes.memmove(target.ctypes.data, address, target.nbytes)

    module.Error = RuntimeError
    module.init = lambda: None
    module.Device, module.Stream, module.mem_alloc = Device, Stream, Allocation
    module.pagelocked_empty = lambda shape, dtype: np.empty(shape, dtype)
    module.memcpy_htod_async, module.memcpy_dtoh_async = memcpy_htod_async, memcpy_dtoh_async
    return module
