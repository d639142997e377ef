"""From an engine file to something that runs, and every reason why not, in words.

The order matters. The driver is asked through ctypes before a TensorRT library is
loaded; the record is compared before the file is read; the hash is compared before the
bytes reach TensorRT. A library that gets an engine of another version or without a
driver may end the process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ocl_edge.bundle.manifest_parts import FormSpec, TensorSpec
from ocl_edge.errors import BackendError, NoValidEngineError
from ocl_edge.tensorrt.driver import probe_cuda
from ocl_edge.tensorrt.flavours import FlavourName, import_flavour, make_logger
from ocl_edge.tensorrt.key import Here
from ocl_edge.tensorrt.store import StoredEngine, build_command

MESSAGES_KEPT = 5


@dataclass
class EngineLibrary:
    """A TensorRT module that was imported where a driver answers.

    Attributes:
        module: ``tensorrt`` or ``tensorrt_rtx``.
        here: this device, to compare engines with.
        messages: the last errors and warnings that the library logged.
    """

    module: Any
    here: Here
    messages: list[str] = field(default_factory=list)
    _runtime: Any = None

    @property
    def runtime(self) -> Any:
        """The library's Runtime, made at first use; engines must not outlive it."""
        if self._runtime is None:
            self._logger = make_logger(self.module, lambda severity, text: self._keep(f"{severity}: {text}"))
            self._runtime = self.module.Runtime(self._logger)
        return self._runtime

    def explain(self) -> str:
        """What the library said last, and forget it."""
        text = "; ".join(self.messages) or "the library gave no reason"
        self.messages.clear()
        return text

    def _keep(self, text: str) -> None:
        self.messages.append(text)
        del self.messages[:-MESSAGES_KEPT]


def open_library(flavour: FlavourName) -> EngineLibrary:
    """Probe the driver, then import the flavour.

    Raises:
        BackendError: no driver, or no GPU.
        MissingExtraError: the flavour is not installed.
    """
    driver = probe_cuda()
    module = import_flavour(flavour)
    return EngineLibrary(module, Here.of(flavour, str(module.__version__), driver))


def load_engine(library: EngineLibrary, stored: StoredEngine, spec: FormSpec) -> Any:
    """Deserialise an engine that `find_engine` found valid, and check its tensors.

    Args:
        library: whose runtime.
        stored: file and record.
        spec: the form that it must be.

    Raises:
        NoValidEngineError: the file is damaged, or TensorRT does not take it.
        BackendError: its inputs or outputs are not the form's.
    """
    engine = library.runtime.deserialize_cuda_engine(stored.read())
    if engine is None:
        key = stored.record.key
        raise NoValidEngineError(
            f"{key.flavour} {library.here.version} does not take {stored.path} "
            f"(built by {key.version} for {', '.join(key.compute_capabilities)}): {library.explain()}. "
            f"Build it again: {build_command(stored.bundle, key, rebuild=True)}"
        )
    module = library.module
    for names, mode in ((spec.inputs, module.TensorIOMode.INPUT), (spec.outputs, module.TensorIOMode.OUTPUT)):
        _check_tensors(engine, module, stored, names, mode)
    return engine


def _check_tensors(
    engine: Any, module: Any, stored: StoredEngine, specs: tuple[TensorSpec, ...], mode: Any
) -> None:
    there = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {name for name in there if engine.get_tensor_mode(name) == mode}
    if found != {spec.name for spec in specs}:
        raise BackendError(
            f"{stored.path} has the tensors {sorted(found)}, expected {[s.name for s in specs]}"
        )
    for spec in specs:
        shape, dtype = tuple(engine.get_tensor_shape(spec.name)), engine.get_tensor_dtype(spec.name)
        fits = len(shape) == len(spec.shape) and all(
            have == want or want == -1 for have, want in zip(shape, spec.shape, strict=True)
        )
        if dtype != module.DataType.FLOAT or not fits:
            raise BackendError(
                f"{stored.path}: {spec.name} is {dtype} {list(shape)}, expected float32 {list(spec.shape)}"
            )
