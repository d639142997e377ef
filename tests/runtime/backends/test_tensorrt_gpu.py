"""On a machine with a GPU and a TensorRT: `make test-gpu`. Elsewhere none of this counts as passed."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.errors import OclEdgeError
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.network.form_names import FORMS, HEAD_GRAPHS, FormName
from ocl_edge.tensorrt.flavours import FLAVOURS, FlavourName
from ocl_edge.tensorrt.key import Precision
from ocl_edge.timings import Stopwatch
from ocl_edge_export.engines.build import build_engines
from ocl_edge_export.engines.request import BuildRequest
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from ocl_edge_runtime.backends.tensorrt_backend import TensorRtBackend
from ocl_edge_runtime.backends.tensorrt_engines import open_library
from ocl_edge_runtime.backends.tensorrt_torch import TorchCudaDevice
from ocl_edge_runtime.session.backend_head import BackendHead
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.runtime.backends.contract import HeadBackendContract, inputs_of

pytestmark = pytest.mark.gpu
SOAK_S = 30.0


def installed_flavour() -> FlavourName | None:
    for flavour in FLAVOURS:
        try:
            open_library(flavour)
        except OclEdgeError:
            continue
        return flavour
    return None


FLAVOUR = installed_flavour()
if FLAVOUR is None:
    pytestmark = [pytest.mark.gpu, pytest.mark.skip(reason="no GPU, or no TensorRT: NOT CHECKED")]


@pytest.fixture(scope="session")
def gpu_bundle(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small network with engines in fp32 and fp16."""
    place = tmp_path_factory.mktemp("gpu") / "bundle"
    bundle = Bundle.open(shutil.copytree(small_bundle.path, place))
    assert FLAVOUR is not None
    for precision in ("fp32", "fp16"):
        build_engines(bundle, BuildRequest(FLAVOUR, (*FORMS, *HEAD_GRAPHS), precision=precision))  # type: ignore[arg-type]
    return bundle


def opened(
    bundle: Bundle, precision: Precision = "fp32", graphs: bool = True, **device: bool
) -> TensorRtBackend:
    assert FLAVOUR is not None
    on = TorchCudaDevice(**device) if torch.cuda.is_available() else None  # else pycuda
    return TensorRtBackend(bundle, FLAVOUR, precision, graphs, device=on)


class TestContract(HeadBackendContract):
    @pytest.fixture(params=["gpu_bundle"])
    def bundle(self, request: pytest.FixtureRequest) -> Bundle:
        found: Bundle = request.getfixturevalue(request.param)
        return found

    @pytest.fixture(params=[True, False], ids=["graphs", "no graphs"])
    def backend(self, bundle: Bundle, request: pytest.FixtureRequest) -> Backend:
        return opened(bundle, graphs=request.param)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("precision", "relative"), [("fp32", 1e-4), ("fp16", 1e-2)])
def test_it_equals_onnxruntime(
    gpu_bundle: Bundle, form: FormName, precision: Precision, relative: float
) -> None:
    inputs = inputs_of(gpu_bundle, form, 2)
    expected = OnnxRuntimeBackend(gpu_bundle).infer(form, inputs)
    for name, value in opened(gpu_bundle, precision).infer(form, inputs).items():
        assert float((value - expected[name]).abs().max() / expected[name].abs().max()) < relative, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch has no CUDA: NOT CHECKED")
@pytest.mark.parametrize("graphs", [True, False])
def test_outputs_on_the_device_are_ordered_with_the_callers_stream(gpu_bundle: Bundle, graphs: bool) -> None:
    backend = opened(gpu_bundle, graphs=graphs, on_host=False)
    expected = OnnxRuntimeBackend(gpu_bundle)
    for seed in range(20):
        inputs = inputs_of(gpu_bundle, "plain", 1, seed)
        on_device: dict[str, Tensor] = {name: tensor.cuda() for name, tensor in inputs.items()}
        features = backend.infer("plain", on_device)["features_0"]
        assert features.is_cuda
        doubled = (features * 2).cpu()
        assert torch.allclose(doubled / 2, expected.infer("plain", inputs)["features_0"], atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch has no CUDA: NOT CHECKED")
@pytest.mark.parametrize("graphs", [True, False])
def test_a_head_that_stays_on_the_device_learns_what_pytorch_learns(gpu_bundle: Bundle, graphs: bool) -> None:
    settings = AdaptationDefaults()
    expected = TrainableHead(load_head(gpu_bundle), settings)
    head = BackendHead(gpu_bundle, opened(gpu_bundle, graphs=graphs, on_host=False), settings)
    assert all(weight.is_cuda for weight in head.parameters.values())
    for step in range(50):
        features = torch.randn(2, 6, 6, 8, generator=torch.Generator().manual_seed(step))
        loss = expected.adapt([features], ocl, Stopwatch()).loss
        assert head.adapt([features.cuda()], ocl, Stopwatch()).loss == pytest.approx(loss, abs=1e-4)
    for name, weight in expected.snapshot().items():
        assert torch.allclose(head.snapshot()[name], weight, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch has no CUDA: NOT CHECKED")
def test_background_updates_on_the_second_stream_learn_what_inline_ones_do(gpu_bundle: Bundle) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8) for seed in range(10)]
    learned = []
    for update in ("inline", "background"):
        options = SessionOptions(backend=str(FLAVOUR), head="engine", lr=0.01, opening=1.0)
        session = open_session(
            gpu_bundle, options, RealtimeOptions(adapt_every=1, statistics_limit=1e9, update=update)
        )
        session.warm_up()
        for image in images:
            session.predict(image)
            session.adapt()
            session.settle()
        learned.append(session.weights.snapshot())
        session.close()
    for name, weight in learned[0].items():
        assert torch.allclose(learned[1][name], weight, atol=1e-5), name


def test_a_second_start_uses_what_the_first_one_left(gpu_bundle: Bundle, tmp_path: Path) -> None:
    inputs = inputs_of(gpu_bundle, "measured", 1)
    starts = []
    for _ in range(2):
        begin = time.perf_counter()
        backend = opened(gpu_bundle)
        backend.infer("measured", inputs)
        starts.append(time.perf_counter() - begin)
        backend.close()
    assert starts[1] < starts[0] * 1.5


def test_layers_are_timed(gpu_bundle: Bundle) -> None:
    layers = opened(gpu_bundle).profile_layers("plain", inputs_of(gpu_bundle, "plain", 1))
    assert layers
    assert all(milliseconds >= 0 for _, milliseconds in layers)


def test_a_soak_neither_leaks_nor_drifts(gpu_bundle: Bundle) -> None:
    backend = opened(gpu_bundle)
    inputs = inputs_of(gpu_bundle, "measured", 1)
    first = {name: value.clone() for name, value in backend.infer("measured", inputs).items()}
    used_at_start = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    times = []
    end = time.monotonic() + SOAK_S
    while time.monotonic() < end:
        begin = time.perf_counter()
        outputs = backend.infer("measured", inputs)
        times.append(time.perf_counter() - begin)
    assert all(torch.equal(outputs[name], first[name]) for name in first)
    if torch.cuda.is_available():
        assert used_at_start - torch.cuda.mem_get_info()[0] < 32 << 20
    quarter = len(times) // 4
    assert statistics.median(times[-quarter:]) < 2 * statistics.median(times[:quarter])
