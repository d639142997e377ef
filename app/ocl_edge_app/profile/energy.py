"""How much energy the machine takes, where it tells: Intel's and AMD's RAPL, Jetson's power rails, NVML.

RAPL and NVML count joules; a Jetson tells watts, which are taken to last from one reading to the next. All
of them speak of the whole processor or module, whatever else runs on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol


class Meter(Protocol):
    """Counts energy."""

    name: str
    """What is measured."""

    def joules(self) -> float:
        """Since the meter was opened."""


def open_meter(root: Path = Path("/"), nvml: Any = None) -> tuple[Meter | None, str]:
    """The meter of this machine, and its name; where there is none, why.

    Args:
        root: of the file system; another one in tests.
        nvml: the module pynvml; None imports it.
    """
    reasons = []
    for kind in (_open_rails, lambda _root: _open_nvml(nvml), _open_rapl):
        meter, reason = kind(root)
        if meter is not None:
            return meter, meter.name
        reasons.append(reason)
    return None, "; ".join(reasons)


class CountedEnergy:
    """A counter of energy that may begin anew.

    Args:
        name: what is measured.
        read: the counter, in units.
        unit: joules of one.
        range_units: it begins anew at; 0: never.
    """

    def __init__(self, name: str, read: Callable[[], int], unit: float, range_units: int = 0) -> None:
        self.name = name
        self._read, self._unit, self._range = read, unit, range_units
        self._last, self._sum = read(), 0

    def joules(self) -> float:
        now = self._read()
        self._sum += now - self._last + (self._range if now < self._last else 0)
        self._last = now
        return self._sum * self._unit


class SampledPower:
    """Watts, read now and then, and taken to last until they are read again."""

    def __init__(
        self, name: str, watts: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.watts, self._clock = watts, clock
        self._last, self._power, self._sum = clock(), watts(), 0.0

    def joules(self) -> float:
        now, power = self._clock(), self.watts()
        self._sum += (now - self._last) * (power + self._power) / 2
        self._last, self._power = now, power
        return self._sum


def _open_rapl(root: Path) -> tuple[Meter | None, str]:
    directory = root / "sys/class/powercap/intel-rapl:0"
    try:
        name = (directory / "name").read_text("utf-8", "replace").strip()
        range_uj = int((directory / "max_energy_range_uj").read_text("utf-8", "replace"))
        return CountedEnergy(f"processor ({name})", _whole(directory / "energy_uj"), 1e-6, range_uj), ""
    except PermissionError:
        return None, f"the processor's counter needs root ({directory}/energy_uj)"
    except (OSError, ValueError):
        return None, "the processor has no counter (RAPL)"


def _open_rails(root: Path) -> tuple[Meter | None, str]:
    """The module's input rail of a Jetson: millivolts times milliamperes."""
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*/in*_label")):
        try:
            if label.read_text("utf-8", "replace").strip() not in ("VDD_IN", "SYS_5V0"):
                continue
            number = label.name[2:].partition("_")[0]
            volt, ampere = (_whole(label.with_name(f"{kind}{number}_input")) for kind in ("in", "curr"))
            return SampledPower("module (VDD_IN)", lambda v=volt, a=ampere: v() * a() / 1e6), ""  # type: ignore[misc]
        except (OSError, ValueError):
            continue
    return None, "no power rail of a Jetson"


def _open_nvml(nvml: Any) -> tuple[Meter | None, str]:
    try:
        nvml = nvml or import_module("pynvml")
        nvml.nvmlInit()
        gpu = nvml.nvmlDeviceGetHandleByIndex(0)
        return CountedEnergy("GPU 0", lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)), 1e-3), ""
    except Exception as error:  # whatever NVML raises here, it cannot tell
        return None, f"no GPU tells ({type(error).__name__})"


def _whole(file: Path) -> Callable[[], int]:
    return lambda: int(file.read_text("utf-8", "replace"))
