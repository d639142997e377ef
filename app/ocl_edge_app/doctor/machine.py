"""What this machine is and what it can run."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ocl_edge._version import __version__
from ocl_edge.errors import BackendError, MissingExtraError
from ocl_edge.tensorrt.driver import probe_cuda
from ocl_edge.tensorrt.flavours import FLAVOURS, FlavourName, import_flavour, is_installed
from ocl_edge_app.doctor.cameras import describe_cameras
from ocl_edge_app.doctor.gpu_facts import describe_gpus, describe_jetson
from ocl_edge_runtime.backends import BACKENDS, row_of, usable_backends

BESIDE_BACKENDS = ("onnx", "onnxscript", "pycuda", "av", "mcap", "cyclonedds")
"""Libraries that are no backend's."""


@dataclass(frozen=True)
class Machine:
    """Hardware and libraries as text; a backend's value is None where it is usable, else the reason."""

    hardware: dict[str, str]
    libraries: dict[str, str | None]
    backends: dict[str, str | None]
    cameras: dict[str, str]
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
        **describe_driver(),
        **describe_jetson(),
        **describe_gpus(),
    }
    of_backends = dict.fromkeys(library for name in BACKENDS if (library := row_of(name).library))
    libraries = {name: _version(name) for name in (*of_backends, *BESIDE_BACKENDS)}
    libraries |= {flavour: _tensorrt_version(flavour) for flavour in FLAVOURS}
    cameras = describe_cameras()
    return Machine(hardware, libraries, backends, cameras, advice_for(backends, "GPU 0" in hardware))


def processor_name() -> str:
    """Model name from /proc/cpuinfo, or Jetson's from the device tree."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
        return Path("/proc/device-tree/model").read_text("utf-8", "replace").strip("\0\n")
    except OSError:
        return platform.processor() or "unknown"


def describe_driver() -> dict[str, str]:
    """Driver, CUDA and GPUs; without a working driver the reason."""
    try:
        driver = probe_cuda()
    except BackendError as error:
        return {"nvidia driver": str(error)}
    facts = {"nvidia driver": f"{driver.driver or 'version unknown'}, CUDA {driver.cuda}"}
    for index, gpu in enumerate(driver.gpus):
        facts[f"GPU {index}"] = f"{gpu.name}, {gpu.compute_capability}, {gpu.memory_mib} MiB"
    return facts


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _tensorrt_version(flavour: FlavourName) -> str | None:
    """Of the module itself: a Jetson's TensorRT is no Python package that pip knows."""
    if not is_installed(flavour):
        return None
    try:
        return str(import_flavour(flavour).__version__)
    except MissingExtraError as error:
        return str(error)


def advice_for(backends: dict[str, str | None], has_driver: bool) -> str:
    """The next command to type, in words.

    Args:
        backends: name -> None where it can be used, else the reason why not.
        has_driver: whether the NVIDIA driver shows a GPU.
    """
    if has_driver:
        usable = [flavour for flavour in FLAVOURS if backends[flavour] is None]
        if usable:
            return (
                "ocl-edge export CHECKPOINT --out bundle, then: "
                f"ocl-edge build bundle --backend {usable[0]} --precision fp16"
            )
        return (
            "there is a GPU and no TensorRT: pip install 'ocl-edge[rtx]' (PC), "
            "or the TensorRT of JetPack with a venv made by --system-site-packages (Jetson)"
        )
    if backends["onnxruntime"]:
        return f"{backends['onnxruntime']} (the torch backend works, several times slower)"
    return "ocl-edge export CHECKPOINT --out bundle, then: ocl-edge run bundle --source DIR"
