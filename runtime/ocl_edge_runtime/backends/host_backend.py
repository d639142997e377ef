"""What backends on the CPU share: outputs are written into tensors that are allocated once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ocl_edge.bundle.manifest_parts import FormSpec
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, MissingExtraError
from ocl_edge.network.form_names import FormName, GraphName
from ocl_edge.tensors import Tensor, torch
from ocl_edge_runtime.backends.base import Sizes, check_inputs, check_outputs, graphs_of, shape_of
from ocl_edge_runtime.backends.update_stream import UpdateStream
from ocl_edge_runtime.lifetime import ClosedAtExit

LOADERS = 2
"""Graphs that load at once."""


def import_library(name: str, extra: str) -> Any:
    """A backend's library, ``extra`` of this package.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is installed and cannot be imported.
    """
    try:
        return __import__(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise MissingExtraError(name, extra, f"the {name} backend") from error
        raise BackendError(f"{name} is installed and cannot be imported: {error}") from error


class HostBackend(ClosedAtExit):
    """A `HeadBackend` whose tensors lie on the CPU. Each graph is loaded at first use.

    Args:
        bundle: the opened bundle.

    Attributes:
        loads_each_size: a graph is loaded for every batch size (of a head graph: for every size) by itself.
    """

    name: str
    loads_each_size = False
    head_device = "cpu"
    update_stream = UpdateStream()

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._graphs = graphs_of(bundle)
        self._loaded: dict[tuple[GraphName, Sizes | None], Any] = {}
        self._loading: dict[tuple[GraphName, Sizes | None], Future[Any]] = {}
        self._loaders = ThreadPoolExecutor(LOADERS, "load a graph")
        self._outputs: dict[tuple[GraphName, Sizes], dict[str, Tensor]] = {}

    def describe(self) -> Mapping[GraphName, FormSpec]:
        return self._graphs

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sizes = check_inputs(form, self._graphs[form], inputs)
        outputs = self._outputs.get((form, sizes)) or self._allocate(form, sizes)
        self._run_loaded(form, sizes, inputs, outputs)
        return dict(outputs)

    def infer_into(
        self, graph: GraphName, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        spec = self._graphs[graph]
        sizes = check_inputs(graph, spec, inputs)
        check_outputs(graph, spec, sizes, outputs)
        self._run_loaded(graph, sizes, inputs, outputs)

    @property
    def warm(self) -> set[tuple[GraphName, Sizes | None]]:
        """Graphs that ran, each with the sizes that it is loaded for and those of the outputs it has."""
        return self._loaded.keys() | self._outputs.keys()

    def load_ahead(self, form: FormName, batch: int) -> None:
        """Load a form on a thread of its own, while the caller does something else; `infer` waits for it."""
        sizes = next(shape_of(t, (batch, *t.shape[1:])) for t in self._graphs[form].inputs if -1 in t.shape)
        key = self._key(form, sizes)
        if key not in self._loaded and key not in self._loading:
            self._loading[key] = self._loaders.submit(self._load, form, sizes)

    def close(self) -> None:
        self._loaders.shutdown(cancel_futures=True)
        self._loading.clear()
        self._loaded.clear()
        self._outputs.clear()

    @abstractmethod
    def _load(self, graph: GraphName, sizes: Sizes) -> Any:
        """What `_run` needs to run a graph, with ``loads_each_size`` at these free sizes alone.

        Raises:
            BackendError: the library cannot load it.
        """

    @abstractmethod
    def _run(self, loaded: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Read the inputs where they are, write the outputs where they are, and return when that is done."""

    def _run_loaded(
        self, graph: GraphName, sizes: Sizes, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        loaded = self._load_once(graph, sizes)
        try:
            self._run(loaded, inputs, outputs)
        except Exception as error:  # libraries raise whatever a graph that is not the manifest's makes them
            raise BackendError(f"{self.name} cannot run the {graph} graph: {error}") from error

    def _load_once(self, graph: GraphName, sizes: Sizes) -> Any:
        key = self._key(graph, sizes)
        if key not in self._loaded:
            begun = self._loading.pop(key, None)
            self._loaded[key] = begun.result() if begun else self._load(graph, sizes)
        return self._loaded[key]

    def _key(self, graph: GraphName, sizes: Sizes) -> tuple[GraphName, Sizes | None]:
        return graph, sizes if self.loads_each_size else None

    def _allocate(self, form: FormName, sizes: Sizes) -> dict[str, Tensor]:
        outputs = {tensor.name: torch.empty(shape_of(tensor, sizes)) for tensor in self._graphs[form].outputs}
        self._outputs[form, sizes] = outputs
        return outputs
