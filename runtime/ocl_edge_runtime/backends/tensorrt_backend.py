"""TensorRT: classic (10.3 and newer) and RTX, through one module.

Outputs are buffers that are allocated once per form and batch size. An input that lies
on the device already is bound where it is; where CUDA graphs are used it is copied into a
fixed place, on the device. `infer_into` binds the caller's tensors, and keeps a context
and a captured graph for each set of addresses.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial

from ocl_edge.bundle.manifest_parts import FormSpec
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, NoValidEngineError
from ocl_edge.network.form_names import FORMS, FormName, GraphName
from ocl_edge.tensorrt.flavours import FLAVOURS, FlavourName
from ocl_edge.tensorrt.key import PRECISIONS, Precision
from ocl_edge.tensorrt.store import StoredEngine, find_engine
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.backends.base import check_inputs, check_outputs, graphs_of
from ocl_edge_runtime.backends.engine_device import EngineDevice
from ocl_edge_runtime.backends.row import BackendRow
from ocl_edge_runtime.backends.tensorrt_contexts import EngineContexts, PreparedRun, make_profiler
from ocl_edge_runtime.backends.tensorrt_engines import EngineLibrary, open_library
from ocl_edge_runtime.backends.tensorrt_torch import open_device
from ocl_edge_runtime.lifetime import ClosedAtExit


class TensorRtBackend(ClosedAtExit):
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
        self.update_stream = self._device.update_stream
        self._graphs = cuda_graphs
        self.contexts = EngineContexts(self._library, self.engines, self._specs, self._device, cuda_graphs)
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
        prepared = self.contexts.prepare(
            graph, sizes, {name: tensor.data_ptr() for name, tensor in bound.items()}
        )
        for name, buffer in prepared.inputs.items():
            self._device.upload(inputs[name], buffer)
        prepared.held = tensors
        self._execute(prepared)
        self._device.hand_out(list(prepared.outputs.values()))
        for name, buffer in prepared.outputs.items():
            outputs[name].copy_(buffer.tensor)

    def profile_layers(self, form: FormName, inputs: Mapping[str, Tensor]) -> list[tuple[str, float]]:
        """Run once without a graph: each layer and its milliseconds, in order of execution."""
        profiler = make_profiler(self._library.module)
        prepared = self._bind(form, inputs)
        context = prepared.context
        context.profiler = profiler
        context.enqueue_emits_profile = False
        self._device.run(partial(self.contexts.enqueue, prepared))
        self._device.synchronise()
        if not context.report_to_profiler():
            raise BackendError(f"{self.name} gave no layer times: {self._library.explain()}")
        self.contexts.forget(prepared)  # its context would go on profiling
        return list(profiler.layers)

    def close(self) -> None:
        """Wait for the device, write the runtime caches, free contexts, engines and buffers."""
        if self._closed:
            return
        self._closed = True
        self._device.synchronise()
        self.contexts.close()
        self._device.close()

    def _bind(self, form: FormName, inputs: Mapping[str, Tensor]) -> PreparedRun:
        self._require(form)
        prepared = self.contexts.prepare(form, check_inputs(form, self._specs[form], inputs))
        for name, tensor in inputs.items():
            bindable = self._device.can_bind(tensor)
            if not bindable and str(tensor.device) != "cpu":
                raise BackendError(f"{form}: {name} lies on {tensor.device}, where the engine does not run")
            if bindable and not self._graphs:
                self.contexts.set_address(prepared.context, name, tensor.data_ptr())
            else:  # a captured graph reads from a fixed place
                self._device.upload(tensor, prepared.inputs[name])
                self.contexts.set_address(prepared.context, name, prepared.inputs[name].address)
        prepared.held = dict(inputs)  # alive until the next infer: the device may still read them
        return prepared

    def _require(self, graph: GraphName) -> None:
        if graph in self._missing:
            raise self._missing[graph]

    def _execute(self, prepared: PreparedRun) -> None:
        if prepared.replay is not None:
            prepared.replay()
            return
        self._device.run(partial(self.contexts.enqueue, prepared))
        if self._graphs and self._device.can_capture and not self.contexts.capture_graphs:
            # after a first run, in which TensorRT sets up what must not be part of the graph
            self._capture(prepared)

    def _capture(self, prepared: PreparedRun) -> None:
        try:
            prepared.replay = self._device.capture(partial(self.contexts.enqueue, prepared))
        except (BackendError, RuntimeError) as error:
            self._graphs = False
            warnings.warn(
                f"{self.name}: the {prepared.key[0]} form cannot be captured as a CUDA graph and runs "
                f"without, which costs some time at every layer: {error}",
                RuntimeWarning,
                stacklevel=3,
            )


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
