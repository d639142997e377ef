from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ocl_edge.errors import BackendError, MissingExtraError, UsageError
from ocl_edge_runtime import backends
from ocl_edge_runtime.backends import BACKENDS, open_backend, row_of, usable_backends
from ocl_edge_runtime.backends.row import BackendRow


def test_every_backend_declares_itself_once() -> None:
    for name in BACKENDS:
        row = row_of(name)
        assert row.name == name
        assert "fp32" in row.precisions
    assert list(usable_backends()) == list(BACKENDS)
    assert usable_backends()["torch"] is None


def test_the_table_imports_no_backend() -> None:
    code = (
        "import sys, ocl_edge_runtime.backends\n"
        "print(sorted({'torch', 'onnxruntime', 'openvino', 'tensorrt'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def declare(monkeypatch: pytest.MonkeyPatch, *rows: BackendRow) -> None:
    monkeypatch.setattr(backends, "BACKENDS", {row.name: "" for row in rows})
    monkeypatch.setattr(backends, "row_of", {row.name: row for row in rows}.__getitem__)


def opener(name: str, failure: Exception | None = None) -> Any:
    def open_it(_bundle: object, _wanted: object) -> str:
        if failure:
            raise failure
        return name

    return open_it


def row(
    name: str, failure: Exception | None = None, because: str | None = "fast", **facts: Any
) -> BackendRow:
    return BackendRow(name, opener(name, failure), lambda: None, because, **facts)


def test_auto_takes_the_first_row_that_may_work_here_and_does(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(unfit_backends={}))
    missing, broken = MissingExtraError("lib", "cpu", "this"), BackendError("no device")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setattr(backends, "driver_is_installed", lambda: False)
    declare(
        monkeypatch,
        row("on a gpu", on_gpu=True),
        row("by name only", because=None),
        row("elsewhere", machines=("x86_64",)),
        row("missing", missing),
        row("broken", broken),
        row("good", because="it works", precisions=("fp32", "bf16")),
        row("slower"),
    )
    choice = open_backend(bundle)
    assert (choice.backend, choice.because) == ("good", "it works")
    assert choice.passed_over == {"missing": str(missing), "broken": "no device"}
    monkeypatch.setattr(backends, "driver_is_installed", lambda: True)
    assert open_backend(bundle).backend == "on a gpu"
    assert open_backend(bundle, precision="bf16").backend == "good"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert open_backend(bundle, "by name only").because == ""
    with pytest.raises(UsageError, match=r"bf16 does not go with slower; there are good: fp32, bf16"):
        open_backend(bundle, "slower", precision="bf16")
    with pytest.raises(BackendError, match=r"computes in int8 \(on a gpu: it does not compute in int8; "):
        open_backend(bundle, precision="int8")
