"""OpenVINO's entry: one for the whole process, without what reports to its makers.

Its CPU plugin gives the thread that creates it a stack for signals (on processors with large registers) and
unmaps that stack when it goes, from whatever thread it goes in. A plugin that was created in the main thread
and let go in another leaves the main thread with a stack that is not there: the next signal ends the process.
So the entry, which holds the plugin, is never let go.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any


def without_telemetry() -> None:
    """Keep OpenVINO from reporting each model that is read, from a process of its own. Before its import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


@cache
def openvino_core() -> Any:
    """The process's own ``openvino.Core``.

    Raises:
        ImportError: OpenVINO is not installed, or cannot be loaded.
    """
    without_telemetry()
    import openvino

    return openvino.Core()
