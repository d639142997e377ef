"""How long a device would take for an engine's kernels, from data sheets: an estimate, and no measurement.

A roofline (Williams et al. 2009): a kernel takes as long as its bytes or its operations take at the published
peak, whichever is longer, and then a launch. No kernel is faster; most are slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocl_edge.errors import UsageError
from ocl_edge.tensorrt.key import EngineRecord, Precision
from ocl_edge.tensorrt.plan import Kernel

LAUNCH_US = 2.0
"""Of a kernel within a CUDA graph: assumed for every GPU, published for none."""
ON_CUDA_CORES = "fp32"
MATRIX_KINDS = ("correlation", "gemm", "runtime_fusion")
"""Kernels of convolutions and matrix products, which tensor cores run below float32."""


@dataclass(frozen=True)
class Device:
    """What a data sheet tells of a GPU.

    Attributes:
        name: of it.
        bandwidth: of its memory, GB/s.
        peaks: dense operations a second, in units of 1e12: ``fp32`` on CUDA cores, others on tensor cores.
        launch_us: of a kernel, microseconds.
    """

    name: str
    bandwidth: float
    peaks: Mapping[str, float]
    launch_us: float = LAUNCH_US

    def kernel_ms(self, kernel: Kernel, precision: Precision) -> float:
        """Least time of a kernel in milliseconds, its launch included."""
        kind = precision if kernel.kind in MATRIX_KINDS else ON_CUDA_CORES
        peak = self.peaks.get(kind, self.peaks[ON_CUDA_CORES])
        return max(kernel.bytes / (self.bandwidth * 1e6), kernel.operations / (peak * 1e9)) + (
            self.launch_us / 1000
        )


def _tensor(fp16: float) -> dict[str, float]:
    """Peaks of tensor cores, which double with every halving of the type."""
    return {"fp16": fp16, "bf16": fp16, "int8": 2 * fp16}


DEVICES = {
    "agx-orin": Device("Jetson AGX Orin 64GB", 204.8, {"fp32": 5.3, **_tensor(42.5)}),
    "orin-nx": Device("Jetson Orin NX 16GB", 102.4, {"fp32": 1.9, **_tensor(15)}),
    "orin-nano": Device("Jetson Orin Nano 8GB Super", 102.0, {"fp32": 2.1, **_tensor(17)}),
    "t4": Device("NVIDIA T4", 320, {"fp32": 8.1, **_tensor(65)}),
    "a10": Device("NVIDIA A10", 600, {"fp32": 31.2, **_tensor(125)}),
    "l4": Device("NVIDIA L4", 300, {"fp32": 30.3, **_tensor(121)}),
    "rtx-4090": Device("GeForce RTX 4090", 1008, {"fp32": 82.6, **_tensor(165)}),
    "h100": Device("NVIDIA H100 SXM", 3350, {"fp32": 67, **_tensor(989)}),
}
"""Values of the makers' data sheets, without sparsity."""


@dataclass(frozen=True)
class Estimate:
    """Of one engine; times in milliseconds for a batch of one.

    Attributes:
        form: that it was built from.
        precision: of the engine.
        kernels: number of them.
        bytes: that they move.
        operations: that they compute.
        launches_ms: part of ``ms`` that goes to launches.
        ms: sum over the kernels.
    """

    form: str
    precision: str
    kernels: int
    bytes: int
    operations: int
    launches_ms: float
    ms: float


def find_device(words: str) -> Device:
    """A device by its name, or ``GB/S:TFLOPS`` for one that is not in the table.

    Raises:
        UsageError: neither.
    """
    known = DEVICES.get(words)
    if known:
        return known
    bandwidth, _, peak = words.partition(":")
    try:
        device = Device(f"{bandwidth} GB/s, {peak} TFLOPS", float(bandwidth), {"fp32": float(peak)})
    except ValueError:
        device = None
    if (
        device is None
        or not 0 < device.bandwidth < float("inf")
        or not 0 < device.peaks["fp32"] < float("inf")
    ):
        raise UsageError(
            f"no device is called {words!r}; known: {', '.join(DEVICES)}. For another one: its memory's GB/s "
            "and its TFLOPS, as in --estimate 204.8:5.3"
        )
    return device


def estimate_engines(records: Sequence[EngineRecord], device: Device) -> list[Estimate]:
    """One estimate for each engine whose plan is known."""
    estimates = []
    for record in records:
        if record.plan is None:
            continue
        kernels, precision = record.plan.kernels, record.key.precision
        estimates.append(
            Estimate(
                form=record.key.form,
                precision=precision,
                kernels=len(kernels),
                bytes=record.plan.bytes,
                operations=record.plan.operations,
                launches_ms=len(kernels) * device.launch_us / 1000,
                ms=sum(device.kernel_ms(kernel, precision) for kernel in kernels),
            )
        )
    return estimates
