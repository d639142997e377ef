"""ONNX Runtime's GPU providers where there is none: refused in words, never run on the CPU instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.tensorrt.driver import CudaDriver, Gpu
from ocl_edge_runtime.backends import onnxruntime_gpu
from ocl_edge_runtime.backends.onnxruntime_gpu import OnnxRuntimeGpuBackend, engine_cache

WITH_A_GPU = CudaDriver("13.0", "580.65", (Gpu("RTX", "sm89", 8192),))
pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is a GPU provider here"
)


@pytest.fixture
def backend(small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> OnnxRuntimeGpuBackend:
    """A backend that believes in a provider, whose sessions are the CPU's."""
    monkeypatch.setattr(onnxruntime_gpu, "require_provider", lambda provider: None)
    return OnnxRuntimeGpuBackend(small_bundle, "cuda")


def cpu_session(bundle: Bundle) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    path = bundle.file(bundle.manifest.forms["plain"].file)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def test_a_package_without_the_provider_is_told_with_the_way_out(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_gpu, "probe_cuda", lambda: WITH_A_GPU)
    with pytest.raises(BackendError, match=r"has no CUDAExecutionProvider, only .*pip uninstall onnxruntime"):
        OnnxRuntimeGpuBackend(small_bundle, "cuda")


def test_a_session_that_fell_back_to_the_cpu_is_refused(
    backend: OnnxRuntimeGpuBackend, small_bundle: Bundle
) -> None:
    with pytest.raises(BackendError, match="asked ONNX Runtime for CUDAExecutionProvider, it runs CPU"):
        backend._check_session(cpu_session(small_bundle), "plain")


@pytest.mark.skipif(
    not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
    reason="this ONNX Runtime cannot tell where an operator runs",
)
def test_convolutions_on_the_cpu_are_refused(
    backend: OnnxRuntimeGpuBackend, small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_provider", "CPUExecutionProvider")
    with pytest.raises(BackendError, match=r"left .*Conv.* of the plain form on the CPU"):
        backend._check_session(cpu_session(small_bundle), "plain")


def test_the_tensorrt_provider_keeps_engines_by_bundle_gpu_driver_and_version(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It names them by the graph alone: two bundles of one architecture would share weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = replace(small_bundle, identity="f" * 64)
    newer = replace(WITH_A_GPU, driver="590.1")
    moved = replace(WITH_A_GPU, gpus=(Gpu("RTX", "sm120", 8192),))
    kept = [
        engine_cache(small_bundle, "1.22", WITH_A_GPU),
        engine_cache(other, "1.22", WITH_A_GPU),
        engine_cache(small_bundle, "1.23", WITH_A_GPU),
        engine_cache(small_bundle, "1.22", newer),
        engine_cache(small_bundle, "1.22", moved),
    ]
    assert len(set(kept)) == 5
    assert all(place is not None and place.is_dir() for place in kept)


def test_the_tensorrt_provider_is_told_that_place(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_gpu, "require_provider", lambda provider: None)
    monkeypatch.setattr(onnxruntime_gpu, "probe_cuda", lambda: WITH_A_GPU)
    asked: list[Any] = []
    backend = OnnxRuntimeGpuBackend(small_bundle, "tensorrt")
    library = SimpleNamespace(__version__="1", InferenceSession=lambda *_, providers: asked.extend(providers))
    monkeypatch.setattr(backend, "_library", library)
    backend._open_session("x.onnx", onnxruntime.SessionOptions())
    place = engine_cache(small_bundle, "1", WITH_A_GPU)
    assert asked[0][1]["trt_engine_cache_path"] == str(place)
