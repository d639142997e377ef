"""Temperatures and clocks, where the machine tells: thermal zones, clocks of CPUs and GPU, NVML."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MOST_READ = 100
"""Characters of a file that says one number or name."""


@dataclass(frozen=True)
class Reading:
    """One number.

    Attributes:
        part: of the machine that it is about.
        value: degrees Celsius, or hertz.
    """

    part: str
    value: float


class MachineState:
    """Reads the machine.

    Args:
        root: of the file system; another one in tests.
        nvml: the module pynvml; None imports it where it is installed.
    """

    def __init__(self, root: Path = Path("/"), nvml: Any = None) -> None:
        self._root = root
        self._nvml, self._gpus = _open_nvml(nvml)

    def temperatures(self) -> list[Reading]:
        """Degrees Celsius of every zone and GPU."""
        found = [*self._zones()]
        for index, gpu in enumerate(self._gpus):
            with suppress(self._nvml.NVMLError):
                celsius = self._nvml.nvmlDeviceGetTemperature(gpu, self._nvml.NVML_TEMPERATURE_GPU)
                found.append(Reading(f"gpu{index}", float(celsius)))
        return found

    def clocks(self) -> list[Reading]:
        """Hertz of every group of CPU cores and of every GPU."""
        cpus = [
            (policy.name, policy / "scaling_cur_freq", 1e3)
            for policy in sorted((self._root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
        ]
        devices = [
            (device.name, device / "cur_freq", 1.0)
            for device in sorted((self._root / "sys/class/devfreq").glob("*"))
        ]
        found = [
            Reading(part, unit * number)
            for part, file, unit in (*cpus, *devices)
            if (number := _number(file)) is not None
        ]
        for index, gpu in enumerate(self._gpus):
            with suppress(self._nvml.NVMLError):
                megahertz = self._nvml.nvmlDeviceGetClockInfo(gpu, self._nvml.NVML_CLOCK_SM)
                found.append(Reading(f"gpu{index}", 1e6 * megahertz))
        return found

    def _zones(self) -> Iterator[Reading]:
        for zone in sorted((self._root / "sys/class/thermal").glob("thermal_zone*")):
            number = _number(zone / "temp")
            if number is not None:
                yield Reading(f"{_text(zone / 'type') or zone.name}/{zone.name[12:]}", number / 1000)


def _open_nvml(nvml: Any) -> tuple[Any, list[Any]]:
    """The module and a handle for each GPU; none without the package or without a driver."""
    try:
        nvml = nvml or import_module("pynvml")
    except ImportError:
        return None, []
    try:
        nvml.nvmlInit()
        return nvml, [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return None, []


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text and len(text) < 20 and text.lstrip("-").isdecimal() else None


def _text(file: Path) -> str | None:
    try:
        with file.open(errors="replace") as opened:
            return opened.read(MOST_READ).strip("\0\n ")
    except OSError:
        return None
