"""Before a run: is there a valid engine for every form that it needs, and if not, build it."""

from __future__ import annotations

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import NoValidEngineError
from ocl_edge.network.form_names import FormName, GraphName
from ocl_edge.tensorrt.flavours import FLAVOURS, as_flavour
from ocl_edge.tensorrt.key import Precision
from ocl_edge.tensorrt.store import find_engine
from ocl_edge_app.cli.output import note, stage_progress


def graphs_of(mode: str, method: str, head: str = "torch") -> tuple[GraphName, ...]:
    """The forms of the backbone that a mode runs, and the head graphs with ``head`` engine."""
    forms = _forms_of(mode, method)
    return (*forms, "head", "head_step") if head == "engine" else forms


def _forms_of(mode: str, method: str) -> tuple[FormName, ...]:
    from ocl_edge.method.methods import find_method

    if not find_method(method).modulates_norms:
        return ("plain",)
    return ("modulated", "measured") if mode == "realtime" else ("measured",)


def ensure_engines(
    bundle: Bundle, backend: str, forms: tuple[GraphName, ...], precision: Precision | None, no_build: bool
) -> None:
    """Build the engines that a named TensorRT backend lacks; other backends need none.

    ``auto`` never builds: it passes TensorRT over and says so.

    Args:
        bundle: to run.
        backend: as on the command line.
        forms: graphs that will run.
        precision: wanted; None: any that is there, and fp32 where none is.
        no_build: refuse where an engine is missing.

    Raises:
        NoValidEngineError: one is missing, with the reason and the command (``no_build``).
        BackendError, BuildError, MissingExtraError, ParityError: it cannot be built or run here.
    """
    if backend not in FLAVOURS:
        return
    from ocl_edge_runtime.backends.tensorrt_engines import open_library

    flavour = as_flavour(backend)
    here = open_library(flavour).here
    missing = []
    for form in forms:
        try:
            find_engine(bundle, form, here, precision).read()
        except NoValidEngineError as error:
            if no_build:
                raise
            note(str(error))
            missing.append(form)
    if not missing:
        return
    from ocl_edge_export.engines.build import build_engines
    from ocl_edge_export.engines.request import BuildRequest

    with stage_progress("build") as progress:
        build_engines(bundle, BuildRequest(flavour, tuple(missing), precision=precision or "fp32"), progress)
