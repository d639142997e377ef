from __future__ import annotations

import builtins
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, MissingExtraError, UsageError
from ocl_edge.openvino_core import openvino_core
from ocl_edge_runtime.backends import open_backend, usable_backends
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from ocl_edge_runtime.backends.openvino_backend import OpenVinoBackend
from ocl_edge_runtime.backends.torch_backend import TorchBackend
from tests.runtime.backends.contract import BackendContract, HeadBackendContract, inputs_of


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class TestTorch(BackendContract):
    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        return TorchBackend(bundle)


class TestOpenVino(HeadBackendContract):
    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        return OpenVinoBackend(bundle, threads=1)

    def test_every_batch_size_is_compiled_by_itself(self, backend: Backend, bundle: Bundle) -> None:
        """A free batch size costs a quarter of the time."""
        assert isinstance(backend, OpenVinoBackend)
        for batch in (1, 2, 1):
            inputs = inputs_of(bundle, "measured", batch)
            expected = TorchBackend(bundle).infer("measured", inputs)
            for name, output in backend.infer("measured", inputs).items():
                assert torch.allclose(output, expected[name], atol=2e-5), name
        models = [request.get_compiled_model() for request in backend._loaded.values()]
        assert [model.input("image").shape[0] for model in models] == [1, 2]


class TestOnnxRuntime(HeadBackendContract):
    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        return OnnxRuntimeBackend(bundle, threads=2)

    def test_output_buffers_are_allocated_once(self, backend: Backend, bundle: Bundle) -> None:
        places = set()
        for seed in range(4):
            outputs = backend.infer("plain", inputs_of(bundle, "plain", 1, seed))
            places.add(outputs["features_0"].data_ptr())
        assert len(places) == 1

    def test_idle_threads_leave_the_cores_to_pytorch(self, backend: Backend, bundle: Bundle) -> None:
        backend.infer("plain", inputs_of(bundle, "plain", 1))
        assert isinstance(backend, OnnxRuntimeBackend)
        (session,) = backend._loaded.values()
        options = session.get_session_options()
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        assert options.intra_op_num_threads == 2


def test_auto_takes_the_fastest_on_this_processor_and_says_why(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine, name in (("x86_64", "openvino"), ("aarch64", "onnxruntime")):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        choice = open_backend(small_bundle)
        assert choice.backend.name == name
        assert choice.passed_over == {}
        assert choice.because.startswith("on a CPU")
    assert open_backend(small_bundle, "onnxruntime").because == ""


def test_a_backend_that_does_not_fit_the_bundle_is_passed_over_by_name(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    unfit = {"openvino": "9.05 % of the pixels get another class"}
    manifest = small_bundle.manifest.model_copy(update={"unfit_backends": unfit})
    bundle = replace(small_bundle, manifest=manifest)
    choice = open_backend(bundle)
    assert (choice.backend.name, choice.passed_over) == ("onnxruntime", unfit)
    with pytest.raises(BackendError, match=r"openvino does not fit this bundle: 9\.05 % .*--backend auto"):
        open_backend(bundle, "openvino")


def test_auto_never_computes_in_another_precision(small_bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"no backend here computes in int8 .*torch: it does not compute"):
        open_backend(small_bundle, precision="int8")
    with pytest.raises(UsageError, match=r"fp16 does not go with openvino; .*openvino: fp32, bf16"):
        open_backend(small_bundle, "openvino", precision="fp16")
    with pytest.raises(UsageError, match="bf16 does not go with onnxruntime"):
        open_backend(small_bundle, "onnxruntime", precision="bf16")


def test_openvino_computes_in_bf16_only_where_it_is_asked_to(small_bundle: Bundle) -> None:
    can = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if not can:
        with pytest.raises(BackendError, match="no bf16 instructions"):
            OpenVinoBackend(small_bundle, 1, "bf16")
        return
    inputs = inputs_of(small_bundle, "plain", 1)
    exact = TorchBackend(small_bundle).infer("plain", inputs)["features_0"]
    differences = [
        float(
            (OpenVinoBackend(small_bundle, 1, precision).infer("plain", inputs)["features_0"] - exact)
            .abs()
            .max()
        )
        for precision in (None, "bf16")  # None: OpenVINO's own default would be bf16
    ]
    assert differences[0] < 2e-5 < 1e-3 < differences[1]


def test_openvino_keeps_what_it_compiled_and_works_without_a_place_for_it(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inputs = inputs_of(small_bundle, "plain", 1)
    expected = TorchBackend(small_bundle).infer("plain", inputs)["features_0"]

    def check() -> None:
        features = OpenVinoBackend(small_bundle, 1).infer("plain", inputs)["features_0"]
        assert torch.allclose(features, expected, atol=2e-5)

    check()
    place = tmp_path / "ocl-edge" / "openvino" / small_bundle.identity[:24]
    (blob,) = place.glob("*.blob")
    blob.write_bytes(b"damaged")
    check()
    (tmp_path / "file").write_text("in the way of a directory, as a read-only disk is")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    check()


def test_auto_says_why_it_passed_over(small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_onnxruntime(name: str, *arguments: Any, **options: Any) -> Any:
        if name in ("onnxruntime", "openvino"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *arguments, **options)

    for library in ("onnxruntime", "openvino"):
        monkeypatch.delitem(sys.modules, library, raising=False)
    monkeypatch.setattr(builtins, "__import__", without_onnxruntime)
    choice = open_backend(small_bundle)
    assert choice.backend.name == "torch"
    assert "pip install 'ocl-edge[cpu]'" in choice.passed_over["onnxruntime"]
    with pytest.raises(MissingExtraError):
        open_backend(small_bundle, "onnxruntime")


def test_a_library_that_is_installed_and_broken_is_told_from_one_that_is_missing(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libcudart.so.13: cannot open')")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    reason = "onnxruntime is installed and cannot be imported: libcudart.so.13: cannot open"
    usable = usable_backends()
    assert (usable["onnxruntime"], usable["torch"]) == (reason, None)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")  # auto leaves OpenVINO out
    choice = open_backend(small_bundle)
    assert (choice.backend.name, choice.passed_over) == ("torch", {"onnxruntime": reason})
    with pytest.raises(BackendError, match="libcudart"):
        open_backend(small_bundle, "onnxruntime")


def test_an_unknown_backend_is_refused(small_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"known: auto, tensorrt, .*onnxruntime, torch"):
        open_backend(small_bundle, "cuda")


def test_sampled_rows_change_the_statistics(small_bundle: Bundle, sampled_bundle: Bundle) -> None:
    inputs = inputs_of(small_bundle, "measured", 1)
    all_rows = TorchBackend(small_bundle).infer("measured", inputs)["statistics"]
    some_rows = TorchBackend(sampled_bundle).infer("measured", inputs)["statistics"]
    assert not torch.allclose(all_rows, some_rows, atol=1e-3)


def test_a_signal_after_a_backend_was_closed_elsewhere_is_harmless(small_bundle: Bundle) -> None:
    """OpenVINO's plugin would leave the thread that made it without its stack for signals."""
    code = f"""
import os, signal, threading, torch
from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.backends import open_backend
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
bundle = Bundle.open({str(small_bundle.path)!r})
backends = [open_backend(bundle, "openvino").backend for _ in range(2)]
size = bundle.manifest.input
for backend in backends:
    backend.infer("plain", {{"image": torch.zeros(1, 3, size.height, size.width)}})
del backend
def let_go():
    while backends:
        backends.pop().close()
thread = threading.Thread(target=let_go)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
