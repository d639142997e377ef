"""What this machine is and what it can run."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ocl_edge._version import __version__
from ocl_edge_runtime.backends import usable_backends

LIBRARIES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "pycuda",
    "av",
)


@dataclass(frozen=True)
class Machine:
    """Hardware and libraries as text; a backend's value is None where it is usable, else the reason."""

    hardware: dict[str, str]
    libraries: dict[str, str | None]
    backends: dict[str, str | None]
    advice: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe_machine() -> Machine:
    """Look at this machine; nothing is loaded or changed."""
    backends = usable_backends()
    hardware = {
        "ocl-edge": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{processor_name()}, {len(os.sched_getaffinity(0))} usable cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "nvidia driver": cuda_driver() or "none (libcuda.so.1 is not there, or no device answers)",
    }
    return Machine(hardware, {name: _version(name) for name in LIBRARIES}, backends, _advice(backends))


def processor_name() -> str:
    """Model name from /proc/cpuinfo, or Jetson's from the device tree."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
        return Path("/proc/device-tree/model").read_text().strip("\0\n")
    except OSError:
        return platform.processor() or "unknown"


def cuda_driver() -> str | None:
    """CUDA version and device count that the driver reports, None without a working driver."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version, count = ctypes.c_int(), ctypes.c_int()
    if library.cuInit(0) or library.cuDriverGetVersion(ctypes.byref(version)):
        return None
    library.cuDeviceGetCount(ctypes.byref(count))
    return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}, {count.value} device(s)"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _advice(backends: dict[str, str | None]) -> str:
    if backends["onnxruntime"]:
        return f"{backends['onnxruntime']} (the torch backend works, several times slower)"
    return "ocl-edge export CHECKPOINT --out bundle, then: ocl-edge run bundle --source DIR"
