from __future__ import annotations

import sys
from pathlib import Path

import pynvml
import pytest

from ocl_edge.tensorrt.driver import driver_version
from ocl_edge_app.doctor import machine
from ocl_edge_app.doctor.gpu_facts import describe_gpus, describe_jetson

JETSON = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "var/lib/dpkg/status": "Package: a\nVersion: 1\n\n"
    "Package: nvidia-jetpack\nStatus: ok\nVersion: 6.2+b77\n\nPackage: z\nVersion: 3\n",
    "var/lib/nvpmodel/status": "pmode:0001",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/class/thermal/thermal_zone0/temp": "48500\n",
    "sys/class/thermal/thermal_zone1/temp": "51200\n",
}


def test_a_jetson_is_described_from_its_files(tmp_path: Path) -> None:
    for name, content in JETSON.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert describe_jetson(tmp_path) == {
        "module": "NVIDIA Jetson Orin Nano Developer Kit",
        "L4T": "36.4.3",
        "JetPack": "6.2+b77",
        "power mode": "25W (1)",
        "GPU clock": "306 of 918 MHz",
        "CPU clock": "729 of 1728 MHz, governor schedutil",
        "hottest zone": "51 degrees C",
    }


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real nvidia-ml-py with its calls into the driver replaced; a name that it lacks fails here."""
    calls: list[str] = []

    def refuse(*_: object) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def clock(handle: str, domain: int) -> int:
        assert domain == pynvml.NVML_CLOCK_SM
        return {"first": 1410, "second": 300}[handle]

    replaced = {
        "nvmlInit": lambda: calls.append("init"),
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: ("first", "second")[index],
        "nvmlDeviceGetClockInfo": clock,
        "nvmlDeviceGetMaxClockInfo": lambda handle, domain: clock(handle, domain) + 100,
        "nvmlDeviceGetPowerUsage": lambda handle: 61_900 if handle == "first" else refuse(),
        "nvmlDeviceGetEnforcedPowerLimit": refuse,
    }
    for name, function in replaced.items():
        monkeypatch.setattr(pynvml, name, function)
    return calls


def test_gpus_are_described_by_the_drivers_own_library(two_gpus: list[str]) -> None:
    assert describe_gpus() == {
        "GPU 0 state": "clock 1410 MHz, of 1510 MHz, 61 W",
        "GPU 1 state": "clock 300 MHz, of 400 MHz",
    }
    assert two_gpus == ["init", "shutdown"]


def test_a_library_without_a_driver_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert describe_gpus() == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert describe_gpus() == {}


def test_another_machine_is_no_jetson(tmp_path: Path) -> None:
    assert describe_jetson(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 06:54:38 UTC 2025",
            "580.65.06",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build", "540.4.0"),
        ("something else", None),
    ],
)
def test_the_drivers_version_is_read(tmp_path: Path, text: str, version: str | None) -> None:
    (tmp_path / "version").write_text(text)
    assert driver_version(tmp_path / "version") == version
    assert driver_version(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("gpu", "usable", "advice"),
    [
        (True, ["tensorrt"], "ocl-edge build bundle --backend tensorrt --precision fp16"),
        (True, ["tensorrt-rtx"], "ocl-edge build bundle --backend tensorrt-rtx --precision fp16"),
        (True, [], "there is a GPU and no TensorRT"),
        (False, [], "ocl-edge run bundle --source DIR"),
    ],
)
def test_the_next_step_fits_the_machine(gpu: bool, usable: list[str], advice: str) -> None:
    names = ("tensorrt", "tensorrt-rtx", "onnxruntime")
    backends = {name: None if name in (*usable, "onnxruntime") else "missing" for name in names}
    assert advice in machine.advice_for(backends, gpu)
