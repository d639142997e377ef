"""TensorRT: classic (10.3 and newer) and RTX, through one module.

Outputs are buffers that are allocated once per form and batch size. An input that lies
on the device already is bound where it is; where CUDA graphs are used it is copied into a
fixed place, on the device. `infer_into` binds the caller's tensors, and keeps a context
and a captured graph for each set of addresses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ocl_edge.bundle.manifest import FormSpec
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, NoValidEngineError
from ocl_edge.network.forms import FORMS, FormName, GraphName
from ocl_edge.tensorrt.flavours import FLAVOURS, FlavourName
from ocl_edge.tensorrt.key import PRECISIONS, Precision
from ocl_edge.tensorrt.store import StoredEngine, find_engine
from ocl_edge_runtime.backends.base import Sizes, check_inputs, check_outputs, graphs_of, shape_of
from ocl_edge_runtime.backends.engine_device import Buffer, EngineDevice
from ocl_edge_runtime.backends.row import BackendRow
from ocl_edge_runtime.backends.runtime_cache import RuntimeCache
from ocl_edge_runtime.backends.tensorrt_engines import EngineLibrary, load_engine, open_library
from ocl_edge_runtime.backends.tensorrt_torch import open_device

CPU = torch.device("cpu")

Key = tuple[GraphName, Sizes, tuple[tuple[str, int], ...]]
"""Graph, free sizes, and the addresses of what is bound where the caller has it."""


@dataclass
class _Prepared:
    """A context of its own for each key, because a captured graph belongs to its context.

    ``inputs`` and ``outputs`` are the backend's own buffers, ``held`` keeps the caller's tensors alive.
    """

    key: Key
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
        device: opened by default with `open_device`.
        on_device: leave outputs on the GPU where PyTorch has CUDA: a head that runs there,
            in PyTorch or as an engine, takes them without a copy.
        for_updates: give way to other backends on the same GPU.

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
        on_device: bool = False,
        for_updates: bool = False,
    ) -> None:
        self.name: str = flavour
        self._library = library or open_library(flavour)
        self._missing: dict[GraphName, NoValidEngineError] = {}
        self.engines: dict[GraphName, StoredEngine] = {}
        graphs = graphs_of(bundle)
        for form in graphs:
            try:
                self.engines[form] = find_engine(bundle, form, self._library.here, precision)
            except NoValidEngineError as error:
                self._missing[form] = error
        if not any(form in self.engines for form in FORMS):
            raise self._missing["plain"]
        self._specs = {form: graphs[form] for form in self.engines}
        self._device = device or open_device(not on_device, for_updates)
        self.head_device = self._device.torch_device
        self.lane = self._device.lane
        self._graphs = cuda_graphs
        self._loaded: dict[GraphName, Any] = {}
        self._caches: dict[Key, RuntimeCache] = {}
        self._prepared: dict[Key, _Prepared] = {}
        self._closed = False

    def describe(self) -> Mapping[GraphName, FormSpec]:
        return self._specs

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a form. Inputs may lie on the CPU or where the engine runs.

        Outputs are complete on the CPU, except on a `TorchCudaDevice` that leaves them
        where they are: then the caller's stream waits for them, the caller does not.
        """
        prepared = self._bind(form, inputs)
        self._execute(prepared)
        self._device.hand_out(list(prepared.outputs.values()))
        return {name: buffer.tensor for name, buffer in prepared.outputs.items()}

    def infer_into(
        self, graph: GraphName, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        """See `HeadBackend.infer_into`. What lies on the device is read and written where it is."""
        self._require(graph)
        sizes = check_inputs(graph, self._specs[graph], inputs)
        check_outputs(graph, self._specs[graph], sizes, outputs)
        tensors = {**inputs, **outputs}
        bound = {name: tensor for name, tensor in tensors.items() if self._device.can_bind(tensor)}
        prepared = self._prepare(graph, sizes, {name: tensor.data_ptr() for name, tensor in bound.items()})
        for name, buffer in prepared.inputs.items():
            self._device.upload(inputs[name], buffer)
        prepared.held = tensors
        self._execute(prepared)
        self._device.hand_out(list(prepared.outputs.values()))
        for name, buffer in prepared.outputs.items():
            outputs[name].copy_(buffer.tensor)

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
        del self._prepared[prepared.key]  # its context would go on profiling
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
        self._require(form)
        prepared = self._prepare(form, check_inputs(form, self._specs[form], inputs))
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

    def _require(self, graph: GraphName) -> None:
        if graph in self._missing:
            raise self._missing[graph]

    def _execute(self, prepared: _Prepared) -> None:
        if prepared.replay is not None:
            prepared.replay()
            return
        self._device.run(partial(self._enqueue, prepared))
        if self._graphs and self._device.can_capture and not self._is_rtx:
            # after a first run, in which TensorRT sets up what must not be part of the graph
            self._capture(prepared)

    def _capture(self, prepared: _Prepared) -> None:
        try:
            prepared.replay = self._device.capture(partial(self._enqueue, prepared))
        except (BackendError, RuntimeError) as error:
            self._graphs = False
            warnings.warn(
                f"{self.name}: the {prepared.key[0]} form cannot be captured as a CUDA graph and runs "
                f"without, which costs some time at every layer: {error}",
                RuntimeWarning,
                stacklevel=3,
            )

    def _prepare(self, graph: GraphName, sizes: Sizes, bound: Mapping[str, int] | None = None) -> _Prepared:
        """A context with all shapes set, and the addresses of ``bound`` and of the outputs."""
        bound = bound or {}
        key = (graph, sizes, tuple(sorted(bound.items())))
        if key in self._prepared:
            return self._prepared[key]
        self._check_batch(graph, sizes)
        spec, context = self._specs[graph], self._create_context(key)
        for tensor in spec.inputs:
            if not context.set_input_shape(tensor.name, shape_of(tensor, sizes)):
                raise BackendError(
                    f"{graph}: the engine refuses {tensor.name} {list(shape_of(tensor, sizes))}: "
                    f"{self._library.explain()}"
                )
        for tensor in spec.outputs:
            shape = tuple(context.get_tensor_shape(tensor.name))
            if shape != shape_of(tensor, sizes):
                raise BackendError(f"{graph}: the engine gives {tensor.name} {list(shape)} at {list(sizes)}")
        inputs, outputs = (
            {t.name: self._device.allocate(shape_of(t, sizes)) for t in tensors if t.name not in bound}
            for tensors in (spec.inputs, spec.outputs)
        )
        addresses = {**bound, **{name: buffer.address for name, buffer in {**inputs, **outputs}.items()}}
        for name, address in addresses.items():
            self._set_address(context, name, address)
        prepared = self._prepared[key] = _Prepared(key, context, inputs, outputs)
        return prepared

    def _check_batch(self, graph: GraphName, sizes: Sizes) -> None:
        """Of the image, or of a head's features; a head step's is always two."""
        key, free = self.engines[graph].record.key, self._specs[graph].inputs[0].shape[0] == -1
        if free and not key.min_batch <= sizes[0] <= key.max_batch:
            raise BackendError(
                f"the {graph} engine takes batches of {key.min_batch} to {key.max_batch}, got {sizes[0]}; "
                f"build one that does: ocl-edge build --rebuild --max-batch {sizes[0]}"
            )

    def _create_context(self, key: Key) -> Any:
        graph, sizes, _ = key
        if graph not in self._loaded:
            self._loaded[graph] = load_engine(self._library, self.engines[graph], self._specs[graph])
        engine = self._loaded[graph]
        if self._is_rtx:
            config = engine.create_runtime_config()
            strategies = self._library.module.CudaGraphStrategy
            config.cuda_graph_strategy = (
                strategies.WHOLE_GRAPH_CAPTURE if self._graphs else strategies.DISABLED
            )
            self._caches[key] = RuntimeCache(config, self.engines[graph], self._library.here, sizes)
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context()
        if context is None:
            raise BackendError(
                f"{self.name} cannot prepare the {graph} engine, most likely for want of GPU memory: "
                f"{self._library.explain()}"
            )
        return context

    def _set_address(self, context: Any, name: str, address: int) -> None:
        if not context.set_tensor_address(name, address):
            raise BackendError(f"{self.name} refuses the address of {name}: {self._library.explain()}")

    def _enqueue(self, prepared: _Prepared, stream: int) -> None:
        if not prepared.context.execute_async_v3(stream):
            raise BackendError(
                f"{self.name} cannot run the {prepared.key[0]} form: {self._library.explain()}"
            )


def _make_profiler(library: Any) -> Any:
    class LayerTimes(library.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProfiler.__init__(self)
            self.layers: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.layers.append((layer_name, ms))

    return LayerTimes()


def _row(flavour: FlavourName) -> BackendRow:
    return BackendRow(
        name=flavour,
        open=lambda bundle, wanted: TensorRtBackend(
            bundle, flavour, wanted.precision, on_device=wanted.on_device, for_updates=wanted.for_updates
        ),
        require=lambda: open_library(flavour),
        because="compiled for this GPU",
        precisions=PRECISIONS,
        on_gpu=True,
    )


ROWS = tuple(map(_row, FLAVOURS))
