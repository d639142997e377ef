"""The TensorRT runner against test doubles; numerics are ONNX Runtime's."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.errors import BackendError, MissingExtraError, NoValidEngineError
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.timings import Stopwatch
from ocl_edge_app.cli import run
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.tensorrt_backend import TensorRtBackend
from ocl_edge_runtime.backends.tensorrt_engines import open_library
from ocl_edge_runtime.backends.tensorrt_pycuda import PyCudaDevice
from ocl_edge_runtime.backends.torch_backend import TorchBackend
from ocl_edge_runtime.session.backend_head import BackendHead
from tests.doubles import pycuda as fake_pycuda
from tests.doubles.tensorrt import CudaGraphStrategy, HostDevice, fake_library, store_fake_engines
from tests.runtime.backends.contract import HeadBackendContract, inputs_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def pycuda(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    driver, package = fake_pycuda.make_module(), ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    return driver


class TestClassicWithGraphs(HeadBackendContract):
    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        store_fake_engines(bundle)
        return TensorRtBackend(bundle, "tensorrt", library=fake_library(), device=HostDevice())


class TestClassicWithoutGraphs(HeadBackendContract):
    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        store_fake_engines(bundle)
        return TensorRtBackend(
            bundle, "tensorrt", cuda_graphs=False, library=fake_library(), device=HostDevice()
        )


class TestRtx(HeadBackendContract):
    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        store_fake_engines(bundle, "tensorrt-rtx")
        return TensorRtBackend(
            bundle, "tensorrt-rtx", library=fake_library("tensorrt-rtx"), device=HostDevice()
        )


class TestPyCuda(HeadBackendContract):
    @pytest.fixture
    def backend(self, bundle: Bundle, pycuda: ModuleType) -> Backend:
        store_fake_engines(bundle)
        return TensorRtBackend(bundle, "tensorrt", library=fake_library(), device=PyCudaDevice())


def opened(bundle: Bundle, device: HostDevice, graphs: bool = True) -> TensorRtBackend:
    store_fake_engines(bundle)
    return TensorRtBackend(bundle, "tensorrt", cuda_graphs=graphs, library=fake_library(), device=device)


def contexts(backend: TensorRtBackend) -> list[object]:
    return [prepared.context for prepared in backend.contexts.prepared.values()]


def test_each_form_and_batch_is_captured_once_and_replayed(small_bundle: Bundle) -> None:
    device = HostDevice()
    backend = opened(small_bundle, device)
    for seed in range(4):
        backend.infer("plain", inputs_of(small_bundle, "plain", 1, seed))
        backend.infer("plain", inputs_of(small_bundle, "plain", 2, seed))
    assert device.captures == 2
    for context in contexts(backend):
        assert len(context.executions) == 4  # type: ignore[attr-defined]
        assert len({tuple(run.items()) for run in context.executions}) == 1  # type: ignore[attr-defined]


def test_device_tensors_are_bound_without_a_copy_where_no_graph_needs_a_fixed_place(
    small_bundle: Bundle,
) -> None:
    device = HostDevice()
    backend = opened(small_bundle, device, graphs=False)
    inputs = inputs_of(small_bundle, "modulated", 1)
    backend.infer("modulated", inputs)
    assert device.uploads == 0
    (context,) = contexts(backend)
    assert context.addresses["image"] == inputs["image"].data_ptr()  # type: ignore[attr-defined]


def test_a_form_that_cannot_be_captured_says_so_and_runs(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: HostDevice, enqueue: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(HostDevice, "capture", refuse)
    backend = opened(small_bundle, HostDevice())
    with pytest.warns(RuntimeWarning, match="plain form cannot be captured as a CUDA graph.*not permitted"):
        backend.infer("plain", inputs_of(small_bundle, "plain", 1, 1))
    inputs = inputs_of(small_bundle, "plain", 1, 2)
    expected = TorchBackend(small_bundle).infer("plain", inputs)["features_0"]
    assert torch.allclose(backend.infer("plain", inputs)["features_0"], expected, atol=2e-5)


def test_output_buffers_are_allocated_once(small_bundle: Bundle) -> None:
    backend = opened(small_bundle, HostDevice())
    places = {
        backend.infer("plain", inputs_of(small_bundle, "plain", 1, seed))["features_0"].data_ptr()
        for seed in range(3)
    }
    assert len(places) == 1


def test_inputs_live_until_the_next_infer(small_bundle: Bundle) -> None:
    backend = opened(small_bundle, HostDevice(), graphs=False)
    inputs = inputs_of(small_bundle, "plain", 1)
    alive = weakref.ref(inputs["image"])
    backend.infer("plain", inputs)
    del inputs
    gc.collect()
    assert alive() is not None
    backend.infer("plain", inputs_of(small_bundle, "plain", 1))
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("graphs", [True, False])
def test_the_two_sets_of_a_heads_weights_stay_on_the_device(small_bundle: Bundle, graphs: bool) -> None:
    """Weights and momentum are bound where they lie, in turns; no copy but of what is new at each step."""
    device = HostDevice()
    backend = opened(small_bundle, device, graphs)
    head = BackendHead(small_bundle, backend, AdaptationDefaults())
    watch, steps = Stopwatch(), 6
    pairs = [[torch.randn(2, 6, 6, 8)] for _ in range(steps)]
    for pair in pairs:
        assert head.adapt(pair, ocl, watch).applied
    assert device.uploads == 0  # the double binds CPU tensors as a GPU binds its own
    runs = backend.contexts.loaded["head_step"].executions
    assert len(runs) == steps
    for now, after in pairwise(runs):
        for name in ("weight", "bias", "weight_momentum", "bias_momentum"):
            assert now[f"new_{name}"] == after[name]
            assert now[name] == after[f"new_{name}"]
    assert device.captures == (2 if graphs else 0)
    expected = TrainableHead(load_head(small_bundle), AdaptationDefaults())
    for pair in pairs:
        expected.adapt(pair, ocl, watch)
    for name, weight in expected.snapshot().items():
        assert torch.allclose(head.parameters[name], weight, atol=1e-5)


def test_pycuda_shares_the_primary_context_and_lets_it_go(small_bundle: Bundle, pycuda: ModuleType) -> None:
    store_fake_engines(small_bundle)
    backend = TensorRtBackend(small_bundle, "tensorrt", library=fake_library(), device=PyCudaDevice())
    backend.infer("plain", inputs_of(small_bundle, "plain", 1))
    backend.close()
    assert pycuda.log == ["primary", "push", "pop"]


def test_rtx_gets_its_graph_strategy_and_keeps_its_runtime_cache(small_bundle: Bundle, cache: Path) -> None:
    store_fake_engines(small_bundle, "tensorrt-rtx")
    for graphs, strategy in (
        (True, CudaGraphStrategy.WHOLE_GRAPH_CAPTURE),
        (False, CudaGraphStrategy.DISABLED),
    ):
        device = HostDevice()
        backend = TensorRtBackend(
            small_bundle, "tensorrt-rtx", None, graphs, fake_library("tensorrt-rtx"), device
        )
        backend.infer("plain", inputs_of(small_bundle, "plain", 1))
        assert device.captures == 0
        (context,) = contexts(backend)
        assert context.config.cuda_graph_strategy is strategy  # type: ignore[attr-defined]
        backend.close()
    (file,) = (cache / "ocl-edge" / "runtime").iterdir()
    assert file.read_bytes() == b"compiled kernels"
    assert "sm87" in file.name


def test_a_damaged_runtime_cache_is_made_anew(small_bundle: Bundle, cache: Path) -> None:
    store_fake_engines(small_bundle, "tensorrt-rtx")

    def run_once() -> None:
        library = fake_library("tensorrt-rtx")
        backend = TensorRtBackend(small_bundle, "tensorrt-rtx", library=library, device=HostDevice())
        backend.infer("plain", inputs_of(small_bundle, "plain", 1))
        backend.close()

    run_once()
    (file,) = (cache / "ocl-edge" / "runtime").iterdir()
    file.write_bytes(b"something else")
    run_once()
    assert file.read_bytes() == b"compiled kernels"


def test_layers_are_timed(small_bundle: Bundle) -> None:
    backend = opened(small_bundle, HostDevice())
    inputs = inputs_of(small_bundle, "plain", 1)
    assert backend.profile_layers("plain", inputs) == [("conv", 0.25), ("norm", 0.125)]
    assert torch.isfinite(backend.infer("plain", inputs)["features_0"]).all()


def test_a_batch_that_the_engine_does_not_take_is_refused(small_bundle: Bundle) -> None:
    backend = opened(small_bundle, HostDevice())
    with pytest.raises(BackendError, match=r"batches of 1 to 2, got 3; .*--max-batch 3"):
        backend.infer("plain", inputs_of(small_bundle, "plain", 3))


def test_a_failing_run_says_what_the_library_said(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_fake_engines(small_bundle)
    library = fake_library()
    backend = TensorRtBackend(small_bundle, "tensorrt", library=library, device=HostDevice())
    library.messages.append("error: illegal address")
    monkeypatch.setattr(
        HostDevice, "run", lambda self, enqueue: enqueue(0)
    )  # a stream that is not the device's
    with pytest.raises(BackendError, match="cannot run the plain form: error: illegal address"):
        backend.infer("plain", inputs_of(small_bundle, "plain", 1))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"version": "10.13.3"}, "tensorrt version: built for 10.13.3, here 10.3.0"),
        ({"gpu": "Thor"}, "GPU: built for Thor, here Orin"),
        ({"compute_capabilities": ("sm110",)}, "compute capability: built for sm110, here sm87"),
        ({"cuda": "13"}, "CUDA: built for 13, here 12"),
        ({"driver": "580"}, "driver: built for 580, here 540"),
        ({"onnx_sha256": "0" * 64}, "ONNX sha256: built for 000000000000, here "),
        ({"weights_sha256": "0" * 64}, "weights sha256: built for 000000000000, here "),
        ({"width": 96}, "input size: built for 48x96, here 48x64"),
    ],
)
def test_an_engine_of_something_else_is_refused_with_the_reason(
    small_bundle: Bundle, changed: dict[str, object], reason: str
) -> None:
    store_fake_engines(small_bundle, **changed)
    with pytest.raises(NoValidEngineError) as error:
        TensorRtBackend(small_bundle, "tensorrt", library=fake_library(), device=HostDevice())
    assert reason in str(error.value)
    assert f"ocl-edge build {small_bundle.path} --backend tensorrt --forms plain" in str(error.value)


def test_a_wanted_precision_is_never_replaced_by_another(small_bundle: Bundle) -> None:
    store_fake_engines(small_bundle)
    with pytest.raises(NoValidEngineError, match=r"precision: built for fp32, here fp16.*--precision fp16"):
        TensorRtBackend(small_bundle, "tensorrt", "fp16", library=fake_library(), device=HostDevice())


def test_without_any_engine_the_command_is_given(small_bundle: Bundle) -> None:
    with pytest.raises(
        NoValidEngineError, match=r"no tensorrt engine of the plain form was built; .*ocl-edge"
    ):
        TensorRtBackend(small_bundle, "tensorrt", library=fake_library(), device=HostDevice())


def test_a_form_without_an_engine_is_refused_when_it_is_asked_for(small_bundle: Bundle) -> None:
    for stored in store_fake_engines(small_bundle):
        if stored.record.key.form in ("measured", "head_step"):
            stored.path.with_suffix(".json").unlink()
    backend = TensorRtBackend(small_bundle, "tensorrt", library=fake_library(), device=HostDevice())
    assert list(backend.describe()) == ["plain", "modulated", "head"]
    with pytest.raises(
        BackendError, match=r"cannot run head_step: build them: ocl-edge .*--forms head,head_step"
    ):
        BackendHead(small_bundle, backend, AdaptationDefaults())
    with pytest.raises(NoValidEngineError, match="--forms measured"):
        backend.infer("measured", inputs_of(small_bundle, "measured", 1))


def test_a_damaged_engine_never_reaches_the_library(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(small_bundle, HostDevice())
    monkeypatch.setattr("tests.doubles.tensorrt.Runtime.deserialize_cuda_engine", None)
    path = backend.engines["plain"].path
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(NoValidEngineError, match=r"plain\.engine is damaged.*--rebuild"):
        backend.infer("plain", inputs_of(small_bundle, "plain", 1))


def test_an_engine_that_the_library_rejects_is_explained_with_both_versions(small_bundle: Bundle) -> None:
    store_fake_engines(small_bundle, content=b"another format")
    backend = TensorRtBackend(small_bundle, "tensorrt", library=fake_library(), device=HostDevice())
    with pytest.raises(
        NoValidEngineError, match=r"tensorrt 10\.3\.0 does not take .*built by 10\.3\.0.*magic tag"
    ):
        backend.infer("plain", inputs_of(small_bundle, "plain", 1))


def test_an_engine_with_other_tensors_is_refused(small_bundle: Bundle) -> None:
    engines = {stored.record.key.form: stored for stored in store_fake_engines(small_bundle)}
    swapped = engines["measured"].path.read_bytes()
    store_fake_engines(small_bundle, content=swapped)
    backend = TensorRtBackend(small_bundle, "tensorrt", library=fake_library(), device=HostDevice())
    with pytest.raises(BackendError, match=r"has the tensors .*anchor_statistics.*expected \['image'\]"):
        backend.infer("plain", inputs_of(small_bundle, "plain", 1))


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="there is a driver here")
def test_without_a_driver_the_library_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def imported(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr("ocl_edge_runtime.backends.tensorrt_engines.import_flavour", imported)
    with pytest.raises(BackendError, match=r"no NVIDIA driver here: libcuda\.so\.1"):
        open_library("tensorrt-rtx")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from ocl_edge.tensorrt import flavours as tensorrt_flavours

    monkeypatch.setitem(tensorrt_flavours.MODULES, "tensorrt-rtx", ("no_such_module",))
    with pytest.raises(MissingExtraError, match=r"tensorrt-rtx.*pip install 'ocl-edge\[rtx\]'"):
        tensorrt_flavours.import_flavour("tensorrt-rtx")


@pytest.fixture
def on_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorrt_backend", "tensorrt_engines"):
        monkeypatch.setattr(f"ocl_edge_runtime.backends.{module}.open_library", fake_library)
    monkeypatch.setattr("ocl_edge_runtime.backends.tensorrt_backend.open_device", lambda *_: HostDevice())


@pytest.mark.usefixtures("on_fakes")
@pytest.mark.parametrize("mode", ["frozen", "paper", "realtime"])
def test_a_run_gives_the_masks_of_onnxruntime(
    small_bundle: Bundle, frames: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store_fake_engines(small_bundle)
    for backend in ("tensorrt", "onnxruntime"):
        sink = f"masks:{tmp_path / backend}"
        command = ["run", str(small_bundle.path), "--source", str(frames), "--mode", mode, "--sink", sink]
        # one update a frame, whatever the machine's speed
        command += ["--adapt-every", "1"] if mode == "realtime" else []
        assert run([*command, "--backend", backend, "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)["backend"] == backend
    masks = sorted(file.name for file in (tmp_path / "onnxruntime").iterdir())
    assert len(masks) == 6
    for name in masks:
        ours, theirs = (np.array(Image.open(tmp_path / b / name)) for b in ("tensorrt", "onnxruntime"))
        assert (ours != theirs).mean() < 0.001, name
