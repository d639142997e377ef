"""A test double of TensorRT: it reads and writes the bound addresses and computes with ONNX Runtime.

It is strict where the real one is: every address must be set, every input shape within
the engine, execution only on the stream of the device; it runs nothing while a graph is
captured, and a captured graph keeps the addresses that it was captured with.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from ocl_edge.bundle.manifest import file_sha256
from ocl_edge.bundle.reading import Bundle
from ocl_edge.tensorrt.flavours import FlavourName
from ocl_edge.tensorrt.key import EngineKey, EngineRecord, Here, graph_hashes
from ocl_edge.tensorrt.store import StoredEngine, store_engine
from ocl_edge.user_cache import user_cache
from ocl_edge_runtime.backends.engine_device import Buffer, Enqueue
from ocl_edge_runtime.backends.tensorrt_engines import EngineLibrary
from ocl_edge_runtime.backends.update_stream import UpdateStream

MAGIC = b"fake engine "
STREAM = 0xABC0
STREAMS: Container[int] = {STREAM}
"""Handles that there are."""
Places = dict[str, tuple[int, int]]
WATCHERS: list[Callable[[int, Places, Places], None]] = []
"""Called with the stream and with first and last byte of all that an engine reads and writes."""
HERE = {"version": "10.3.0", "gpu": "Orin", "compute_capability": "sm87", "cuda": "12", "driver": "540"}


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


class ILogger:
    Severity = Severity


class IProfiler:
    pass


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = 1, 2


class DataType(enum.Enum):
    FLOAT, HALF = 0, 1


class CudaGraphStrategy(enum.Enum):
    DISABLED, WHOLE_GRAPH_CAPTURE = 0, 1


class Runtime:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        if not content.startswith(MAGIC):
            self.logger.log(Severity.ERROR, "magic tag does not match")
            return None
        return Engine(json.loads(content[len(MAGIC) :]))


class Engine:
    def __init__(self, description: dict[str, Any]) -> None:
        self.session = onnxruntime.InferenceSession(description["onnx"], providers=["CPUExecutionProvider"])
        self.tensors = [(i, TensorIOMode.INPUT) for i in self.session.get_inputs()]
        self.tensors += [(o, TensorIOMode.OUTPUT) for o in self.session.get_outputs()]
        self.max_batch = description["max_batch"]
        self.contexts: list[Context] = []
        self.executions: list[dict[str, int]] = []

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(self.tensors[index][0].name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return next(mode for tensor, mode in self.tensors if tensor.name == name)

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        tensor = next(tensor for tensor, _ in self.tensors if tensor.name == name)
        return tuple(side if isinstance(side, int) else -1 for side in tensor.shape)

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context:
        self.contexts.append(Context(self, config))
        return self.contexts[-1]


class RuntimeConfig:
    cuda_graph_strategy: CudaGraphStrategy | None = None
    cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class RuntimeCache:
    content = b"compiled kernels"

    def deserialize(self, content: bytes) -> bool:
        return content == self.content

    def serialize(self) -> bytes:
        return self.content


class Context:
    """``executions`` holds the addresses of every run, as the engine's does of all its contexts."""

    profiler: Any = None
    enqueue_emits_profile = True

    def __init__(self, engine: Engine, config: RuntimeConfig | None) -> None:
        self.engine, self.config = engine, config
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.executions: list[dict[str, int]] = []
        self.capturing: list[Callable[[], None]] | None = None

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        declared = self.engine.get_tensor_shape(name)
        fits = len(declared) == len(shape) and all(
            d in (-1, s) and (d != -1 or axis > 0 or s <= self.engine.max_batch)
            for axis, (d, s) in enumerate(zip(declared, shape, strict=True))
        )
        self.shapes.update({name: tuple(shape)} if fits else {})
        return fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        declared = self.engine.get_tensor_shape
        sizes = next((shape for tensor, shape in self.shapes.items() if -1 in declared(tensor)), ())
        return tuple(sizes[axis] if side == -1 else side for axis, side in enumerate(declared(name)))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        names = {tensor.name for tensor, _ in self.engine.tensors}
        if stream_handle not in STREAMS or self.addresses.keys() != names:
            return False
        run = _bound_run(self, dict(self.addresses), stream_handle)
        if RECORDING:
            RECORDING[-1].append(run)
        else:
            run()
        return True

    def report_to_profiler(self) -> bool:
        self.profiler.report_layer_time("conv", 0.25)
        self.profiler.report_layer_time("norm", 0.125)
        return True


RECORDING: list[list[Callable[[], None]]] = []


def _bound_run(context: Context, addresses: dict[str, int], stream: int) -> Callable[[], None]:
    def array(name: str) -> np.ndarray[Any, Any]:
        shape = context.get_tensor_shape(name)
        floats = (ctypes.c_float * int(np.prod(shape))).from_address(addresses[name])
        return np.frombuffer(floats, np.float32).reshape(shape)

    def run() -> None:
        context.executions.append(addresses)
        context.engine.executions.append(addresses)
        feeds = {name: array(name).copy() for name in context.shapes}
        outputs = [output.name for output in context.engine.session.get_outputs()]
        for name, value in zip(outputs, context.engine.session.run(outputs, feeds), strict=True):
            array(name)[:] = value
        places = {name: (address, address + array(name).nbytes) for name, address in addresses.items()}
        for watcher in WATCHERS:
            reads = {name: places[name] for name in feeds}
            watcher(stream, reads, {name: places[name] for name in outputs})

    return run


class HostDevice:
    """`EngineDevice` in host memory; ``binds`` says whether tensors are bound where they lie."""

    torch_device = torch.device("cpu")
    update_stream = UpdateStream()

    def __init__(self, can_capture: bool = True, binds: bool = True) -> None:
        self.can_capture, self.binds = can_capture, binds
        self.uploads = self.captures = self.closed = 0

    def can_bind(self, tensor: Tensor) -> bool:
        return self.binds

    def allocate(self, shape: Sequence[int]) -> Buffer:
        tensor = torch.full(tuple(shape), torch.nan)
        return Buffer(tensor.data_ptr(), tensor, tensor)

    def upload(self, tensor: Tensor, buffer: Buffer) -> None:
        self.uploads += 1
        buffer.tensor.copy_(tensor)

    def run(self, enqueue: Enqueue) -> None:
        enqueue(STREAM)

    def capture(self, enqueue: Enqueue) -> Callable[[], None]:
        self.captures += 1
        RECORDING.append([])
        enqueue(STREAM)
        recorded = RECORDING.pop()
        return lambda: [run() for run in recorded] and None

    def hand_out(self, buffers: Sequence[Buffer]) -> None:
        pass

    def synchronise(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def fake_library(flavour: FlavourName = "tensorrt", **here: str) -> EngineLibrary:
    module = SimpleNamespace(
        ILogger=ILogger, IProfiler=IProfiler, TensorIOMode=TensorIOMode, DataType=DataType, Runtime=Runtime
    )
    if flavour == "tensorrt-rtx":
        module.CudaGraphStrategy = CudaGraphStrategy
    return EngineLibrary(module, Here(flavour, **{**HERE, **here}))


def store_fake_engines(
    bundle: Bundle, flavour: FlavourName = "tensorrt", content: bytes | None = None, **changed: Any
) -> list[StoredEngine]:
    """Engines of every graph in the user's cache (set XDG_CACHE_HOME first); the bundle is not touched."""
    directory = user_cache() / "engines" / bundle.identity[:24]
    directory.mkdir(parents=True, exist_ok=True)
    return [_store(bundle, directory, flavour, form, content, changed) for form in bundle.manifest.graphs]


def _store(
    bundle: Bundle, directory: Path, flavour: FlavourName, form: Any, content: bytes | None, changed: Any
) -> StoredEngine:
    onnx, weights = graph_hashes(bundle, form)
    frame = bundle.manifest.input
    fields = {
        "form": form,
        "onnx_sha256": onnx,
        "weights_sha256": weights,
        "flavour": flavour,
        "version": HERE["version"],
        "compute_capabilities": (HERE["compute_capability"],),
        "precision": "fp32",
        "height": frame.height,
        "width": frame.width,
        "min_batch": 1,
        "opt_batch": 1,
        "max_batch": 2,
        **changed,
    }
    if flavour == "tensorrt":
        fields = {"gpu": HERE["gpu"], "cuda": HERE["cuda"], "driver": HERE["driver"], **fields}
    key = EngineKey(**fields)
    description = {"onnx": str(bundle.file(bundle.manifest.graphs[form].file)), "max_batch": key.max_batch}
    built = directory / f"{form}.building"
    built.write_bytes(MAGIC + json.dumps(description).encode() if content is None else content)
    record = EngineRecord(
        key=key,
        sha256=file_sha256(built),
        bytes=built.stat().st_size,
        build_s=1.0,
        built_at=f"2026-01-01T00:00:0{list(bundle.manifest.graphs).index(form)}",
        created_with={},
    )
    return store_engine(bundle, directory, built, record)
