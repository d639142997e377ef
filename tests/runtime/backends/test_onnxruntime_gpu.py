"""ONNX Runtime's GPU providers where there is none: refused in words, never run on the CPU instead."""

from __future__ import annotations

import onnxruntime
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.tensorrt.driver import CudaDriver, Gpu
from ocl_edge_runtime.backends import onnxruntime_gpu
from ocl_edge_runtime.backends.onnxruntime_gpu import OnnxRuntimeGpuBackend

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


def test_convolutions_on_the_cpu_are_refused(
    backend: OnnxRuntimeGpuBackend, small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_provider", "CPUExecutionProvider")
    with pytest.raises(BackendError, match=r"left .*Conv.* of the plain form on the CPU"):
        backend._check_session(cpu_session(small_bundle), "plain")
