"""What the NVIDIA driver says of itself and its GPUs, asked through libcuda alone.

Deserialising a TensorRT engine without a driver can end the process. Whoever is about to
touch a GPU library asks here first; nothing but ctypes is needed, and no context is made.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

from ocl_edge.errors import BackendError

DRIVER_LIBRARY = "libcuda.so.1"
DRIVER_VERSION_FILE = Path("/proc/driver/nvidia/version")
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # enum CUdevice_attribute of cuda.h


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, ``smXY``, and the size of its memory."""

    name: str
    compute_capability: str
    memory_mib: int


@dataclass(frozen=True)
class CudaDriver:
    """A driver that answers.

    Attributes:
        cuda: newest CUDA version that it supports, for example ``13.0``.
        driver: its own version, for example ``580.65.06``; None where it is not told.
        gpus: at least one.
    """

    cuda: str
    driver: str | None
    gpus: tuple[Gpu, ...]


def driver_is_installed() -> bool:
    """Whether the driver's library can be loaded; says nothing of whether it works."""
    try:
        ctypes.CDLL(DRIVER_LIBRARY)
    except OSError:
        return False
    return True


def probe_cuda() -> CudaDriver:
    """Ask the driver.

    Raises:
        BackendError: no driver library, a driver that does not start, or no GPU.
    """
    try:
        library = ctypes.CDLL(DRIVER_LIBRARY)
    except OSError as error:
        raise BackendError(
            f"no NVIDIA driver here: {DRIVER_LIBRARY} cannot be loaded; install the driver "
            "(in a container: start it with the NVIDIA runtime)"
        ) from error
    _call(library, "cuInit", 0)
    version, count = ctypes.c_int(), ctypes.c_int()
    _call(library, "cuDriverGetVersion", ctypes.byref(version))
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise BackendError("the NVIDIA driver works but shows no GPU; look at CUDA_VISIBLE_DEVICES")
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return CudaDriver(cuda, driver_version(), tuple(_describe_gpu(library, i) for i in range(count.value)))


def driver_version(file: Path = DRIVER_VERSION_FILE) -> str | None:
    """The kernel module's version, None where it does not tell."""
    try:
        found = re.search(r"Module.*?\s(\d+(?:\.\d+)+)\s", file.read_text("utf-8", "replace"))
    except OSError:
        return None
    return found.group(1) if found else None


def _describe_gpu(library: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    memory, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _call(library, "cuDeviceGet", ctypes.byref(device), index)
    _call(library, "cuDeviceGetName", name, len(name), device)
    _call(library, "cuDeviceGetAttribute", ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, device)
    _call(library, "cuDeviceGetAttribute", ctypes.byref(minor), COMPUTE_CAPABILITY_MINOR, device)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    text = name.value.decode(errors="replace")
    return Gpu(text, f"sm{major.value}{minor.value}", memory.value >> 20)


def _call(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    code = getattr(library, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(text))
        reason = text.value.decode() if text.value else "unknown"
        raise BackendError(f"the NVIDIA driver does not work: {name} gave error {code} ({reason})")
