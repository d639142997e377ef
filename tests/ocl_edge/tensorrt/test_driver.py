"""What the driver says, from a double of libcuda."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from ocl_edge.errors import BackendError
from ocl_edge.tensorrt import driver as cuda_probe
from ocl_edge.tensorrt.driver import Gpu, driver_is_installed, probe_cuda


class FakeDriver:
    """As many functions of the driver as are asked for; ``status`` is what cuInit returns."""

    def __init__(self, gpus: int = 2, status: int = 0) -> None:
        self.gpus, self.status = gpus, status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = f"GPU {device.value}".encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:  # noqa: N802
        size._obj.value = 8 << 30
        return 0

    def cuGetErrorString(self, code: int, text: Any) -> int:  # noqa: N802
        text._obj.value = b"unknown error"
        return 0


def install(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None) -> None:
    def load(name: str) -> FakeDriver:
        if driver is None:
            raise OSError(f"{name}: cannot open shared object file")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)


def test_gpus_and_versions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver())
    monkeypatch.setattr(cuda_probe, "driver_version", lambda: "540.4.0")
    found = probe_cuda()
    assert (found.cuda, found.driver) == ("12.6", "540.4.0")
    assert found.gpus == (Gpu("GPU 0", "sm87", 8192), Gpu("GPU 1", "sm87", 8192))
    assert driver_is_installed()


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (None, r"no NVIDIA driver here: libcuda\.so\.1"),
        (FakeDriver(status=999), r"cuInit gave error 999 \(unknown error\)"),
        (FakeDriver(gpus=0), "shows no GPU; look at CUDA_VISIBLE_DEVICES"),
    ],
)
def test_every_failure_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None, message: str
) -> None:
    install(monkeypatch, driver)
    with pytest.raises(BackendError, match=message):
        probe_cuda()
