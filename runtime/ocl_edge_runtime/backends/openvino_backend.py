"""OpenVINO on the CPU, bound to buffers that are allocated once.

In float32 unless bf16 is asked for: OpenVINO by itself computes in bfloat16 wherever the
processor can, which moves features by some percent of their range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.network.form_names import GraphName
from ocl_edge.openvino_core import openvino_core, without_telemetry
from ocl_edge.tensorrt.key import Precision, precision_of
from ocl_edge.tensors import Tensor
from ocl_edge.user_cache import writable_place
from ocl_edge_runtime.backends.base import Sizes, shape_of
from ocl_edge_runtime.backends.host_backend import HostBackend, import_library
from ocl_edge_runtime.backends.row import BackendRow

DEVICE = "CPU"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
HINTS = dict(zip(PRECISIONS, ("f32", "bf16"), strict=True))


class OpenVinoBackend(HostBackend):
    """One compiled model and one infer request for every graph and batch size.

    With a free batch size OpenVINO plans layouts and memory anew for each frame, which takes 1.2 to
    1.4 times as long (docs/hardware.md).

    Compiled models are kept in the user's cache directory, in a directory of the bundle's
    identity, which may be deleted with the bundle. OpenVINO's own key covers graph, weights and sizes.

    Args:
        bundle: the opened bundle.
        threads: for one inference; None leaves the choice to OpenVINO.
        precision: fp32 (also None) or bf16; head graphs compute in float32 in both.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BackendError: OpenVINO cannot be imported, or this processor has no bf16.
    """

    name = "openvino"
    loads_each_size = True

    def __init__(
        self, bundle: Bundle, threads: int | None = None, precision: Precision | None = None
    ) -> None:
        self._library = import_openvino()
        self._precision: Precision = precision or "fp32"
        self._core = openvino_core()
        if self._precision == "bf16" and "BF16" not in self._core.get_property(
            DEVICE, "OPTIMIZATION_CAPABILITIES"
        ):
            raise BackendError("this processor has no bf16 instructions: --precision fp32")
        self._properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if place := writable_place("openvino", bundle.identity[:24]):  # else a start takes longer
            self._properties["CACHE_DIR"] = str(place)
        if threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = threads
        super().__init__(bundle)

    def _load(self, graph: GraphName, sizes: Sizes) -> Any:
        spec = self._graphs[graph]
        path = self._bundle.graph_file(graph)
        precision = HINTS[precision_of(graph, self._precision)]
        properties = {**self._properties, "INFERENCE_PRECISION_HINT": precision}
        try:
            model = self._core.read_model(str(path))
            model.reshape({tensor.name: list(shape_of(tensor, sizes)) for tensor in spec.inputs})
            compiled = self._core.compile_model(model, DEVICE, properties)
        except Exception as error:
            raise BackendError(f"OpenVINO cannot load {path.name}: {error}") from error
        return compiled.create_infer_request()

    def _run(self, loaded: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        for name, tensor in {**inputs, **outputs}.items():
            loaded.set_tensor(name, self._library.Tensor(tensor.numpy(), shared_memory=True))
        loaded.infer()


def import_openvino() -> Any:
    """The library, see `without_telemetry`.

    Raises:
        MissingExtraError, BackendError: as `import_library`.
    """
    without_telemetry()
    return import_library("openvino", "openvino")


ROWS = (
    BackendRow(
        name="openvino",
        open=lambda bundle, wanted: OpenVinoBackend(bundle, wanted.threads, wanted.precision),
        require=import_openvino,
        because="on a CPU it takes a third to a half of ONNX Runtime's time",
        library="openvino",
        precisions=PRECISIONS,
        machines=("x86_64", "AMD64"),
    ),
)
