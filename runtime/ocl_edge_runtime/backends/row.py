"""What a backend declares of itself: one row, in the module that holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.network.form_names import FormName
    from ocl_edge.tensorrt.key import Precision
    from ocl_edge_runtime.backends.base import Backend


@dataclass(frozen=True)
class Wanted:
    """How a backend is opened.

    Attributes:
        threads: for one operator, on the CPU.
        precision: of compiled engines; None takes the newest valid one.
        on_device: leave outputs where they are computed, for a head that runs there too.
        for_updates: give way to the backend that makes the masks.
    """

    threads: int | None = None
    precision: Precision | None = None
    on_device: bool = False
    for_updates: bool = False


@runtime_checkable
class LoadsAhead(Protocol):
    """A backend that takes a while to load a form, and can do it beside other work."""

    def load_ahead(self, form: FormName, batch: int) -> None:
        """Begin to load it."""


@dataclass(frozen=True)
class BackendRow:
    """A backend: where it works, what it offers, and how it is opened.

    Attributes:
        name: what ``--backend`` calls it.
        open: loads a bundle.
        require: raises an `OclEdgeError` with the reason where its library cannot be used
            here; imports it.
        because: why ``auto`` prefers it to those after it (numbers: docs/hardware.md); None
            where it is taken by name only.
        library: distribution that brings it; None where `FLAVOURS` names it.
        precisions: what ``--precision`` may ask of it.
        on_gpu: needs an NVIDIA driver.
        machines: of `platform.machine`, where its place in the order of speed was measured and
            ``auto`` may take it; None is every machine.
    """

    name: str
    open: Callable[[Bundle, Wanted], Backend]
    require: Callable[[], object]
    because: str | None
    library: str | None = None
    precisions: tuple[Precision, ...] = ("fp32",)
    on_gpu: bool = False
    machines: tuple[str, ...] | None = None
