"""How much memory this process needs."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path


def forget_peak() -> None:
    """Let `peak_mib` begin anew; where the system cannot, it goes on from the process's start."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Largest resident set size of this process since `forget_peak`, MiB."""
    if sys.platform == "linux":
        return (
            int(Path("/proc/self/status").read_text("utf-8", "replace").split("VmHWM:")[1].split()[0]) / 1024
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024
