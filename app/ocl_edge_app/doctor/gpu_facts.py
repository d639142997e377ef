"""What a GPU's speed depends on besides the GPU: JetPack, power mode, clocks, temperature.

A Jetson tells it through files; elsewhere the driver's management library does, through
the package nvidia-ml-py where it is installed.
"""

from __future__ import annotations

import re
from pathlib import Path

GPU_NAMES = ("gpu", "ga10b", "gv11b", "gb10b")


def describe_jetson(root: Path = Path("/")) -> dict[str, str]:
    """Names and values as text; empty where the machine is no Jetson.

    Args:
        root: of the file system; another one in tests.
    """
    release = _read(root / "etc/nv_tegra_release")
    if release is None:
        return {}
    facts = {
        "module": _read(root / "proc/device-tree/model"),
        "L4T": _l4t(release),
        "JetPack": _jetpack(root),
        "power mode": _power_mode(root),
        "GPU clock": _gpu_clock(root),
        "CPU clock": _cpu_clock(root),
        "hottest zone": _temperature(root),
    }
    return {name: value for name, value in facts.items() if value}


def describe_gpus() -> dict[str, str]:
    """Clock and power of each GPU by nvidia-ml-py; empty without it or without a driver."""
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        return {f"GPU {i} state": _gpu_state(pynvml, i) for i in range(pynvml.nvmlDeviceGetCount())}
    finally:
        pynvml.nvmlShutdown()


def _gpu_state(pynvml: object, index: int) -> str:
    nvml: object = pynvml
    handle = nvml.nvmlDeviceGetHandleByIndex(index)  # type: ignore[attr-defined]
    asked = {
        "clock {} MHz": ("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM", 1),
        "of {} MHz": ("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM", 1),
        "{} W": ("nvmlDeviceGetPowerUsage", None, 1000),
        "of {} W": ("nvmlDeviceGetEnforcedPowerLimit", None, 1000),
    }
    parts = []
    for text, (function, domain, divisor) in asked.items():
        arguments = [handle, *([getattr(nvml, domain)] if domain else [])]
        try:
            parts.append(text.format(getattr(nvml, function)(*arguments) // divisor))
        except nvml.NVMLError:  # type: ignore[attr-defined]  # not every GPU tells everything
            continue
    return ", ".join(parts) or "tells nothing"


def _l4t(release: str) -> str | None:
    found = re.search(r"R(\d+).*?REVISION: ([\d.]+)", release)
    return f"{found.group(1)}.{found.group(2)}" if found else None


def _jetpack(root: Path) -> str | None:
    packages = _read(root / "var/lib/dpkg/status") or ""
    found = re.search(r"^Package: nvidia-jetpack\n(?:.+\n)*?Version: (\S+)", packages, re.MULTILINE)
    return found.group(1) if found else None


def _power_mode(root: Path) -> str | None:
    status = re.search(r"pmode:(\d+)", _read(root / "var/lib/nvpmodel/status") or "")
    if not status:
        return None
    number = int(status.group(1))
    models = _read(root / "etc/nvpmodel.conf") or ""
    name = re.search(rf"POWER_MODEL ID={number} NAME=(\S+)", models)
    return f"{name.group(1)} ({number})" if name else str(number)


def _gpu_clock(root: Path) -> str | None:
    for directory in sorted((root / "sys/class/devfreq").glob("*")):
        if any(name in directory.name for name in GPU_NAMES):
            now, most = _number(directory / "cur_freq"), _number(directory / "max_freq")
            if now is not None and most is not None:
                return f"{now // 10**6} of {most // 10**6} MHz"
    return None


def _cpu_clock(root: Path) -> str | None:
    directory = root / "sys/devices/system/cpu/cpu0/cpufreq"
    now, most = _number(directory / "scaling_cur_freq"), _number(directory / "scaling_max_freq")
    governor = _read(directory / "scaling_governor")
    if now is None or most is None:
        return None
    return f"{now // 1000} of {most // 1000} MHz" + (f", governor {governor}" if governor else "")


def _temperature(root: Path) -> str | None:
    zones = [_number(file) for file in (root / "sys/class/thermal").glob("thermal_zone*/temp")]
    known = [zone for zone in zones if zone is not None]
    return f"{max(known) / 1000:.0f} degrees C" if known else None


def _number(file: Path) -> int | None:
    text = _read(file)
    return int(text) if text and text.lstrip("-").isdecimal() else None


def _read(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None
