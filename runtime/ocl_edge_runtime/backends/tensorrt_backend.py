"""TensorRT: classic (10.3 and newer) and RTX, through one module.

Outputs are buffers that are allocated once per form and batch size. An input that lies
on the device already is bound where it is; where CUDA graphs are used it is copied into a
fixed place, on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ocl_edge.bundle import Bundle, FormSpec, TensorSpec
from ocl_edge.engine_key import Precision
from ocl_edge.engine_store import StoredEngine, find_engine
from ocl_edge.errors import BackendError, NoValidEngineError
from ocl_edge.forms import FORMS, FormName
from ocl_edge.tensorrt_flavours import FlavourName
from ocl_edge_runtime.backends.base import check_inputs
from ocl_edge_runtime.backends.engine_device import Buffer, EngineDevice, open_device
from ocl_edge_runtime.backends.runtime_cache import RuntimeCache
from ocl_edge_runtime.backends.tensorrt_engines import EngineLibrary, load_engine, open_library

CPU = torch.device("cpu")


@dataclass
class _Prepared:
    """One form at one batch size: a context of its own, because a captured graph belongs to its context."""

    form: FormName
    batch: int
    context: Any
    inputs: dict[str, Buffer]
    outputs: dict[str, Buffer]
    held: dict[str, Tensor] = field(default_factory=dict)
    replay: Callable[[], None] | None = None


class TensorRtBackend:
    """Runs the engines that `ocl-edge build` made.

    Args:
        bundle: the opened bundle.
        flavour: which TensorRT; also the backend's name.
        precision: of the engines; None takes the newest valid one of each form.
        cuda_graphs: capture each form and batch size as one CUDA graph.
        library: opened by default with `open_library`.
        device: opened by default with `open_device`; `TorchCudaDevice(on_host=False)` lets
            a head on the GPU share the engine's memory.

    Raises:
        BackendError: no driver or GPU.
        NoValidEngineError: not one form has an engine that is valid here.
        MissingExtraError: the flavour, or pycuda where PyTorch has no CUDA, is not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        flavour: FlavourName,
        precision: Precision | None = None,
        cuda_graphs: bool = True,
        library: EngineLibrary | None = None,
        device: EngineDevice | None = None,
    ) -> None:
        self.name: str = flavour
        self._library = library or open_library(flavour)
        self._missing: dict[FormName, NoValidEngineError] = {}
        self.engines: dict[FormName, StoredEngine] = {}
        for form in FORMS:
            try:
                self.engines[form] = find_engine(bundle, form, self._library.here, precision)
            except NoValidEngineError as error:
                self._missing[form] = error
        if not self.engines:
            raise self._missing["plain"]
        self._specs = {form: bundle.manifest.forms[form] for form in self.engines}
        self._device = device or open_device()
        self._graphs = cuda_graphs
        self._loaded: dict[FormName, Any] = {}
        self._caches: dict[tuple[FormName, int], RuntimeCache] = {}
        self._prepared: dict[tuple[FormName, int], _Prepared] = {}
        self._closed = False

    def describe(self) -> Mapping[FormName, FormSpec]:
        return self._specs

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a form. Inputs may lie on the CPU or where the engine runs.

        Outputs are complete on the CPU, except on a `TorchCudaDevice` that leaves them
        where they are: then the caller's stream waits for them, the caller does not.
        """
        prepared = self._bind(form, inputs)
        if prepared.replay is not None:
            prepared.replay()
        else:
            self._device.run(partial(self._enqueue, prepared))
            if self._graphs and self._device.can_capture and not self._is_rtx:
                # after a first run, in which TensorRT sets up what must not be part of the graph
                prepared.replay = self._device.capture(partial(self._enqueue, prepared))
        self._device.hand_out(list(prepared.outputs.values()))
        return {name: buffer.tensor for name, buffer in prepared.outputs.items()}

    def profile_layers(self, form: FormName, inputs: Mapping[str, Tensor]) -> list[tuple[str, float]]:
        """Run once without a graph: each layer and its milliseconds, in order of execution."""
        profiler = _make_profiler(self._library.module)
        prepared = self._bind(form, inputs)
        context = prepared.context
        context.profiler = profiler
        context.enqueue_emits_profile = False
        self._device.run(partial(self._enqueue, prepared))
        self._device.synchronise()
        if not context.report_to_profiler():
            raise BackendError(f"{self.name} gave no layer times: {self._library.explain()}")
        del self._prepared[form, prepared.batch]  # its context would go on profiling
        return list(profiler.layers)

    def close(self) -> None:
        """Wait for the device, write the runtime caches, free contexts, engines and buffers."""
        if self._closed:
            return
        self._closed = True
        self._device.synchronise()
        for cache in self._caches.values():
            cache.save()
        self._prepared.clear()
        self._caches.clear()
        self._loaded.clear()
        self._device.close()

    @property
    def _is_rtx(self) -> bool:
        """RTX captures graphs inside its contexts, where classic TensorRT leaves that to the caller."""
        return self.name == "tensorrt-rtx"

    def _bind(self, form: FormName, inputs: Mapping[str, Tensor]) -> _Prepared:
        if form in self._missing:
            raise self._missing[form]
        batch = check_inputs(form, self._specs[form], inputs)
        prepared = self._prepared.get((form, batch)) or self._prepare(form, batch)
        for name, tensor in inputs.items():
            bindable = self._device.can_bind(tensor)
            if not bindable and tensor.device != CPU:
                raise BackendError(f"{form}: {name} lies on {tensor.device}, where the engine does not run")
            if bindable and not self._graphs:
                self._set_address(prepared.context, name, tensor.data_ptr())
            else:  # a captured graph reads from a fixed place
                self._device.upload(tensor, prepared.inputs[name])
                self._set_address(prepared.context, name, prepared.inputs[name].address)
        prepared.held = dict(inputs)  # alive until the next infer: the device may still read them
        return prepared

    def _prepare(self, form: FormName, batch: int) -> _Prepared:
        key, spec = self.engines[form].record.key, self._specs[form]
        if not key.min_batch <= batch <= key.max_batch:
            raise BackendError(
                f"the {form} engine takes batches of {key.min_batch} to {key.max_batch}, got {batch}; "
                f"build one that does: ocl-edge build --rebuild --max-batch {batch}"
            )
        context = self._create_context(form, batch)
        inputs = {tensor.name: self._device.allocate(_shape(tensor, batch)) for tensor in spec.inputs}
        for tensor in spec.inputs:
            if not context.set_input_shape(tensor.name, _shape(tensor, batch)):
                raise BackendError(
                    f"{form}: the engine refuses {tensor.name} {list(_shape(tensor, batch))}: "
                    f"{self._library.explain()}"
                )
        outputs = {tensor.name: self._device.allocate(_shape(tensor, batch)) for tensor in spec.outputs}
        for tensor in spec.outputs:
            shape = tuple(context.get_tensor_shape(tensor.name))
            if shape != _shape(tensor, batch):
                raise BackendError(f"{form}: the engine gives {tensor.name} {list(shape)} at batch {batch}")
            self._set_address(context, tensor.name, outputs[tensor.name].address)
        prepared = self._prepared[form, batch] = _Prepared(form, batch, context, inputs, outputs)
        return prepared

    def _create_context(self, form: FormName, batch: int) -> Any:
        if form not in self._loaded:
            self._loaded[form] = load_engine(self._library, self.engines[form], self._specs[form])
        engine = self._loaded[form]
        if self._is_rtx:
            config = engine.create_runtime_config()
            strategies = self._library.module.CudaGraphStrategy
            config.cuda_graph_strategy = (
                strategies.WHOLE_GRAPH_CAPTURE if self._graphs else strategies.DISABLED
            )
            self._caches[form, batch] = RuntimeCache(config, self.engines[form], self._library.here, batch)
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context()
        if context is None:
            raise BackendError(
                f"{self.name} cannot prepare the {form} engine, most likely for want of GPU memory: "
                f"{self._library.explain()}"
            )
        return context

    def _set_address(self, context: Any, name: str, address: int) -> None:
        if not context.set_tensor_address(name, address):
            raise BackendError(f"{self.name} refuses the address of {name}: {self._library.explain()}")

    def _enqueue(self, prepared: _Prepared, stream: int) -> None:
        if not prepared.context.execute_async_v3(stream):
            raise BackendError(f"{self.name} cannot run the {prepared.form} form: {self._library.explain()}")


def _shape(tensor: TensorSpec, batch: int) -> tuple[int, ...]:
    return tuple(batch if side == -1 else side for side in tensor.shape)


def _make_profiler(library: Any) -> Any:
    class LayerTimes(library.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProfiler.__init__(self)
            self.layers: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.layers.append((layer_name, ms))

    return LayerTimes()
