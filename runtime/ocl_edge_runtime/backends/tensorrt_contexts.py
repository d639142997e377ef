"""Execution contexts of compiled engines, made once for each graph, size, and set of addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ocl_edge.bundle.manifest_parts import FormSpec
from ocl_edge.errors import BackendError
from ocl_edge.network.form_names import GraphName
from ocl_edge.tensorrt.store import StoredEngine
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.backends.base import Sizes, shape_of
from ocl_edge_runtime.backends.engine_device import Buffer, EngineDevice
from ocl_edge_runtime.backends.runtime_cache import RuntimeCache
from ocl_edge_runtime.backends.tensorrt_engines import EngineLibrary, load_engine

Key = tuple[GraphName, Sizes, tuple[tuple[str, int], ...]]
"""Graph, free sizes, and the addresses of what is bound where the caller has it."""


@dataclass
class PreparedRun:
    """A context of its own for each key, because a captured graph belongs to its context.

    ``inputs`` and ``outputs`` are the backend's own buffers, ``held`` keeps the caller's tensors alive.
    """

    key: Key
    context: Any
    inputs: dict[str, Buffer]
    outputs: dict[str, Buffer]
    held: dict[str, Tensor] = field(default_factory=dict)
    replay: Callable[[], None] | None = None


class EngineContexts:
    """Loads engines at first use and keeps what a run of them needs.

    Args:
        library: the TensorRT that runs them.
        engines: by graph.
        specs: inputs and outputs of each graph.
        device: where they run.
        cuda_graphs: whether RTX captures each context as a CUDA graph.

    Attributes:
        loaded: engines by graph.
        prepared: what was made so far.
    """

    def __init__(
        self,
        library: EngineLibrary,
        engines: Mapping[GraphName, StoredEngine],
        specs: Mapping[GraphName, FormSpec],
        device: EngineDevice,
        cuda_graphs: bool,
    ) -> None:
        self._library = library
        self._name = library.here.flavour
        self._engines = engines
        self._specs = specs
        self._device = device
        self._graphs = cuda_graphs
        self.loaded: dict[GraphName, Any] = {}
        self._caches: dict[Key, RuntimeCache] = {}
        self.prepared: dict[Key, PreparedRun] = {}

    @property
    def capture_graphs(self) -> bool:
        """RTX captures graphs inside its contexts, where classic TensorRT leaves that to the caller."""
        return self._name == "tensorrt-rtx"

    def prepare(self, graph: GraphName, sizes: Sizes, bound: Mapping[str, int] | None = None) -> PreparedRun:
        """A context with all shapes set, and the addresses of ``bound`` and of the outputs."""
        bound = bound or {}
        key = (graph, sizes, tuple(sorted(bound.items())))
        if key in self.prepared:
            return self.prepared[key]
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
            self.set_address(context, name, address)
        prepared = self.prepared[key] = PreparedRun(key, context, inputs, outputs)
        return prepared

    def set_address(self, context: Any, name: str, address: int) -> None:
        if not context.set_tensor_address(name, address):
            raise BackendError(f"{self._name} refuses the address of {name}: {self._library.explain()}")

    def enqueue(self, prepared: PreparedRun, stream: int) -> None:
        if not prepared.context.execute_async_v3(stream):
            raise BackendError(
                f"{self._name} cannot run the {prepared.key[0]} form: {self._library.explain()}"
            )

    def forget(self, prepared: PreparedRun) -> None:
        """Make a context anew at the next run like this one."""
        del self.prepared[prepared.key]

    def close(self) -> None:
        """Write the runtime caches and free everything; nothing is running."""
        for cache in self._caches.values():
            cache.save()
        self.prepared.clear()
        self._caches.clear()
        self.loaded.clear()

    def _check_batch(self, graph: GraphName, sizes: Sizes) -> None:
        """Of the image, or of a head's features; a head step's is always two."""
        key, free = self._engines[graph].record.key, self._specs[graph].inputs[0].shape[0] == -1
        if free and not key.min_batch <= sizes[0] <= key.max_batch:
            raise BackendError(
                f"the {graph} engine takes batches of {key.min_batch} to {key.max_batch}, got {sizes[0]}; "
                f"build one that does: ocl-edge build --rebuild --max-batch {sizes[0]}"
            )

    def _create_context(self, key: Key) -> Any:
        graph, sizes, _ = key
        if graph not in self.loaded:
            self.loaded[graph] = load_engine(self._library, self._engines[graph], self._specs[graph])
        engine = self.loaded[graph]
        if self.capture_graphs:
            config = engine.create_runtime_config()
            strategies = self._library.module.CudaGraphStrategy
            config.cuda_graph_strategy = (
                strategies.WHOLE_GRAPH_CAPTURE if self._graphs else strategies.DISABLED
            )
            self._caches[key] = RuntimeCache(config, self._engines[graph], self._library.here, sizes)
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context()
        if context is None:
            raise BackendError(
                f"{self._name} cannot prepare the {graph} engine, most likely for want of GPU memory: "
                f"{self._library.explain()}"
            )
        return context


def make_profiler(library: Any) -> Any:
    class LayerTimes(library.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProfiler.__init__(self)
            self.layers: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.layers.append((layer_name, ms))

    return LayerTimes()
