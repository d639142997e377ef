from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from backend_contract import BackendContract, HeadBackendContract, inputs_of

from ocl_edge.bundle import Bundle
from ocl_edge.errors import BackendError, MissingExtraError, UsageError
from ocl_edge_runtime.backends import open_backend, usable_backends
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from ocl_edge_runtime.backends.openvino_backend import OpenVinoBackend
from ocl_edge_runtime.backends.torch_backend import TorchBackend


class TestTorch(BackendContract):
    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        return TorchBackend(bundle)


class TestOpenVino(HeadBackendContract):
    @pytest.fixture(autouse=True)
    def cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        return OpenVinoBackend(bundle, threads=1)


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
        options = backend._loaded["plain"].get_session_options()
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        assert options.intra_op_num_threads == 2


def test_auto_prefers_onnxruntime(small_bundle: Bundle) -> None:
    choice = open_backend(small_bundle)
    assert choice.backend.name == "onnxruntime"
    assert choice.passed_over == {}


def test_auto_says_why_it_passed_over(small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_onnxruntime(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
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
