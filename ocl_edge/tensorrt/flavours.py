"""The two TensorRTs, and the one place that imports either.

``tensorrt`` is the classic one: engines fit the GPU and the version that built them, and
it is what a Jetson has. ``tensorrt-rtx`` compiles ahead of time for named compute
capabilities, without a GPU, and finishes on the device when an engine is loaded. Their
Python modules agree in nearly everything; `tests/export/engines/test_names.py` checks
every name that ocl-edge uses in the real modules of several versions.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

from ocl_edge.errors import MissingExtraError

FlavourName = Literal["tensorrt", "tensorrt-rtx"]
Severity = Literal["warning", "error"]
FLAVOURS: tuple[FlavourName, ...] = ("tensorrt", "tensorrt-rtx")

# The second name is what the wheels without the thin top package bring.
MODULES: dict[FlavourName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
EXTRAS: dict[FlavourName, str] = {"tensorrt": "gpu", "tensorrt-rtx": "rtx"}
LIBRARIES: dict[FlavourName, str] = {
    "tensorrt": "tensorrt (on a Jetson JetPack's own, in a venv made with --system-site-packages; elsewhere)",
    "tensorrt-rtx": "tensorrt-rtx",
}


def is_installed(flavour: FlavourName) -> bool:
    """Whether the flavour's module can be found; it is not imported."""
    return any(importlib.util.find_spec(name) is not None for name in MODULES[flavour])


def import_flavour(flavour: FlavourName) -> ModuleType:
    """Import the flavour's module.

    Raises:
        MissingExtraError: it is not installed, or its libraries cannot be loaded.
    """
    failure: ImportError | None = None
    for name in MODULES[flavour]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            failure = failure or error
        except ImportError as error:  # installed, but a shared library is absent: that is the better reason
            failure = error
            break
    missing = not isinstance(failure, ModuleNotFoundError)
    purpose = f"the {flavour} backend" + (f" ({failure})" if missing else "")
    raise MissingExtraError(LIBRARIES[flavour], EXTRAS[flavour], purpose) from failure


def make_logger(
    library: Any, told: Callable[[Severity, str], None], detail: Callable[[str], None] | None = None
) -> Any:
    """A TensorRT logger that hands on warnings and errors.

    Args:
        library: the flavour's module.
        told: called with ``warning`` or ``error`` and the text, from any thread.
        detail: called with every verbose line, likewise.
    """
    severities: dict[Any, Severity] = {
        library.ILogger.Severity.WARNING: "warning",
        library.ILogger.Severity.ERROR: "error",
        library.ILogger.Severity.INTERNAL_ERROR: "error",
    }

    class Messages(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in severities:
                told(severities[severity], text)
            elif detail is not None and severity == library.ILogger.Severity.VERBOSE:
                detail(text)

    return Messages()


def as_flavour(name: str) -> FlavourName:
    """A backend's name as the flavour of the same name."""
    for flavour in FLAVOURS:
        if name == flavour:
            return flavour
    raise ValueError(f"{name!r} is none of {', '.join(FLAVOURS)}")
