"""What `run` does where an engine is missing: build it, or refuse with --no-build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, NoValidEngineError
from ocl_edge_app.cli.engines import ensure_engines, graphs_of
from ocl_edge_export.engines import build as build_module
from ocl_edge_export.engines.request import BuildRequest
from ocl_edge_runtime.backends import open_backend, tensorrt_engines
from tests.doubles.tensorrt import fake_library, store_fake_engines


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tensorrt_engines, "open_library", fake_library)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[BuildRequest]:
    requests: list[BuildRequest] = []

    def record(bundle: Bundle, request: BuildRequest, progress: Any) -> list[Any]:
        requests.append(request)
        return []

    monkeypatch.setattr(build_module, "build_engines", record)
    return requests


@pytest.mark.parametrize(
    ("mode", "method", "forms"),
    [
        ("frozen", "frozen", ("plain",)),
        ("paper", "ocl-head", ("measured",)),
        ("realtime", "ocl-head", ("modulated", "measured")),
    ],
)
def test_a_mode_needs_its_forms_only(mode: str, method: str, forms: tuple[str, ...]) -> None:
    assert graphs_of(mode, method) == forms


def test_valid_engines_are_used(small_bundle: Bundle, builds: list[BuildRequest]) -> None:
    store_fake_engines(small_bundle)
    ensure_engines(small_bundle, "tensorrt", ("plain", "measured"), None, no_build=True)
    assert builds == []


def test_other_backends_need_none(small_bundle: Bundle, builds: list[BuildRequest]) -> None:
    ensure_engines(small_bundle, "auto", ("plain",), None, no_build=True)
    assert builds == []


def test_a_stale_engine_is_rebuilt_and_the_reason_told(
    small_bundle: Bundle, builds: list[BuildRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    store_fake_engines(small_bundle, version="10.13.3")
    ensure_engines(small_bundle, "tensorrt", ("measured",), "fp16", no_build=False)
    assert builds == [BuildRequest("tensorrt", ("measured",), precision="fp16")]
    told = capsys.readouterr().err
    assert "tensorrt version: built for 10.13.3, here 10.3.0" in told
    assert "precision: built for fp32, here fp16" in told


def test_no_build_refuses_with_the_command(small_bundle: Bundle, builds: list[BuildRequest]) -> None:
    store_fake_engines(small_bundle, gpu="Thor")
    with pytest.raises(NoValidEngineError, match=r"GPU: built for Thor, here Orin.*ocl-edge build"):
        ensure_engines(small_bundle, "tensorrt", ("plain",), None, no_build=True)
    assert builds == []


def test_a_damaged_engine_is_rebuilt(small_bundle: Bundle, builds: list[BuildRequest]) -> None:
    store_fake_engines(small_bundle)[0].path.write_bytes(b"cut off")
    ensure_engines(small_bundle, "tensorrt", ("plain", "modulated"), None, no_build=False)
    assert [request.forms for request in builds] == [("plain",)]


def test_a_named_backend_is_never_replaced_by_another(small_bundle: Bundle) -> None:
    with pytest.raises(BackendError):
        open_backend(small_bundle, "tensorrt-rtx")
