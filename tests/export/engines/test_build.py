"""Engines really built by TensorRT-RTX for named compute capabilities, without a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper, save

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, BuildError, BundleError, NoValidEngineError, UsageError
from ocl_edge.network.form_names import HEAD_GRAPHS
from ocl_edge.tensorrt.driver import probe_cuda
from ocl_edge.tensorrt.key import Here, reasons_against
from ocl_edge.tensorrt.store import (
    build_command,
    build_lock,
    engine_directories,
    find_built,
    find_engine,
    list_engines,
    staging_directory,
    trust_engines,
    writable_directory,
)
from ocl_edge_app.cli import run
from ocl_edge_export.engines import build as build_module
from ocl_edge_export.engines.build import build_engines, plan_build
from ocl_edge_export.engines.process import run_worker
from ocl_edge_export.engines.request import BuildRequest
from tests.doubles.two_tasks import export_tasks

SM86_SM89 = BuildRequest("tensorrt-rtx", targets=("sm89", "sm86"))


def has_driver() -> bool:
    try:
        probe_cuda()
    except BackendError:
        return False
    return True


@pytest.fixture
def bundle(small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle of its own for every test, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bundle.open(shutil.copytree(small_bundle.path, tmp_path / "bundle"))


def plain_only(**changed: Any) -> BuildRequest:
    return BuildRequest("tensorrt-rtx", **{"forms": ("plain",), "targets": ("sm86",), **changed})


def device(**changed: str) -> Here:
    version = str(run_worker({"job": "describe", "flavour": "tensorrt-rtx"}, 60)["version"])
    fields = {"version": version, "gpu": "any", "compute_capability": "sm89", "cuda": "13", "driver": "580"}
    return Here(**{"flavour": "tensorrt-rtx", **fields, **changed})  # type: ignore[arg-type]


def test_every_form_is_built_found_and_kept(bundle: Bundle) -> None:
    first = build_engines(bundle, SM86_SM89)
    assert [engine.built for engine in first] == [True, True, True]
    for engine in first:
        assert engine.engine.path.parent.parent == bundle.path / "engines"
        assert len(engine.engine.read()) == engine.engine.record.bytes > 10_000
        found = find_engine(bundle, engine.engine.record.key.form, device())
        assert found.record == engine.engine.record
    assert [engine.built for engine in build_engines(bundle, SM86_SM89)] == [False, False, False]
    names = {file.name for file in (bundle.path / "engines").iterdir() if not file.name.startswith(".")}
    assert names == {first[0].engine.record.key.directory}
    assert first[0].engine.record.key.compute_capabilities == ("sm86", "sm89")
    Bundle.open(bundle.path)  # engines do not touch what the manifest hashes


def test_a_device_that_was_no_target_is_told_so(bundle: Bundle) -> None:
    (built,) = build_engines(bundle, plain_only())
    reasons = reasons_against(built.engine.record.key, bundle, "plain", device(compute_capability="sm120"))
    assert reasons == ["compute capability: built for sm86, here sm120"]
    with pytest.raises(NoValidEngineError, match=r"built for 1\.\d.*, here 9\.9"):
        find_engine(bundle, "plain", device(version="9.9", compute_capability="sm86"))


def test_rebuild_builds_again_and_a_damaged_engine_is_replaced(bundle: Bundle) -> None:
    (built,) = build_engines(bundle, plain_only())
    (again,) = build_engines(bundle, plain_only(rebuild=True))
    assert again.built
    assert again.engine.record.built_at > built.engine.record.built_at
    built.engine.path.write_bytes(b"cut off")
    (mended,) = build_engines(bundle, plain_only())
    assert mended.built
    assert len(mended.engine.read()) > 10_000


def test_head_graphs_are_built_in_float32_whatever_is_asked_of_the_forms(bundle: Bundle) -> None:
    built = build_engines(bundle, plain_only(forms=HEAD_GRAPHS, precision="fp16"))
    for engine in built:
        key = engine.engine.record.key
        assert (key.precision, key.weights_sha256) == ("fp32", "")
        assert find_engine(bundle, key.form, device(compute_capability="sm86"), "fp16").record.key == key
    assert [engine.engine.record.key.form for engine in built] == ["head", "head_step"]
    without = bundle.manifest.model_copy(update={"head_graphs": None, "no_head_graphs": "two layers"})
    with pytest.raises(BundleError, match=r"no head graphs \(two layers\)"):
        plan_build(replace(bundle, manifest=without), plain_only(forms=("head",)))


def test_heads_of_two_outputs_stand_side_by_side_on_one_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    area, lanes = export_tasks(tmp_path, "one_feature").values()
    asked = plain_only(forms=("plain", *HEAD_GRAPHS))
    assert [engine.built for engine in build_engines(area, asked)] == [True, True, True]
    assert [engine.built for engine in build_engines(lanes, asked)] == [False, True, True]
    for bundle in (area, lanes):
        assert [engine.built for engine in build_engines(bundle, asked)] == [False] * 3
        listed = {engine.record.key.form: engine for engine in list_engines(bundle)}
        assert set(listed) == {"plain", "head", "head_step"}
        assert len(list_engines(bundle)) == 3
        for form in HEAD_GRAPHS:
            found = find_engine(bundle, form, device(compute_capability="sm86"))
            graph = bundle.manifest.files[bundle.manifest.graphs[form].file]
            assert found.record.key.onnx_sha256 == graph.sha256
            assert found.path.name == f"{form}.{bundle.output}.engine"
            assert f"build {bundle.path}#{bundle.output} " in build_command(found.bundle, found.record.key)
    with pytest.raises(NoValidEngineError, match=rf"ocl-edge build {lanes.path}#lanes --backend"):
        find_engine(lanes, "measured", device(compute_capability="sm86"))


def test_a_head_is_built_for_the_features_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    area = export_tasks(tmp_path, "detecting")["area"]
    assert area.manifest.features[0][0] != area.manifest.head_features[0][0]
    assert all(engine.built for engine in build_engines(area, plain_only(forms=HEAD_GRAPHS)))


def test_precisions_do_not_replace_each_other(bundle: Bundle) -> None:
    (exact,) = build_engines(bundle, plain_only())
    (half,) = build_engines(bundle, plain_only(precision="fp16"))
    assert half.engine.record.parity is not None
    assert half.engine.record.parity["class_disagreement"] <= 0.01
    assert half.engine.path.parent != exact.engine.path.parent
    assert len(list_engines(bundle)) == 2
    assert (
        find_engine(bundle, "plain", device(compute_capability="sm86"), "fp32").record == exact.engine.record
    )


def test_two_builders_at_once_build_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real, builds = build_module.run_worker, []

    def slow(job: dict[str, Any], *arguments: Any) -> dict[str, Any]:
        if job["job"] == "build":
            builds.append(job)
            time.sleep(1)
        return real(job, *arguments)

    monkeypatch.setattr(build_module, "run_worker", slow)
    told: list[str] = []
    results: list[bool] = []

    def work() -> None:
        results.append(build_engines(bundle, plain_only(), told.append)[0].built)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert sorted(results) == [False, True]
    assert any("another process is building" in words for words in told)


def test_a_bundle_that_cannot_be_written_uses_the_users_cache(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "engines").write_text("in the way of a directory, as a read-only disk is")
    (built,) = build_engines(bundle, plain_only())
    assert built.engine.path.is_relative_to(tmp_path / "cache" / "ocl-edge" / "engines")
    assert find_engine(bundle, "plain", device(compute_capability="sm86")).path == built.engine.path
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("in the way too")
    with pytest.raises(BuildError, match=r"no place .* can be written .*XDG_CACHE_HOME"):
        build_engines(bundle, plain_only())


def test_layer_timings_are_kept_for_the_next_build(bundle: Bundle, tmp_path: Path) -> None:
    """Classic TensorRT's path through the worker; RTX takes the same calls."""
    timings = tmp_path / "cache" / "timings" / "here.cache"
    onnx = bundle.file(bundle.manifest.forms["plain"].file)
    shapes = {"min": [1, 3, 48, 64], "opt": [1, 3, 48, 64], "max": [2, 3, 48, 64]}
    for _ in range(2):
        job = {**job_for(onnx, tmp_path), "shapes": {"image": shapes}, "timing_cache": str(timings)}
        assert run_worker(job, 60)["bytes"] > 1000
        assert timings.stat().st_size > 0


def test_a_failed_build_leaves_nothing_behind(bundle: Bundle) -> None:
    with pytest.raises(BuildError, match="took longer than 0"):
        build_engines(bundle, plain_only(timeout_s=0.01))
    left = [file.name for file in (bundle.path / "engines").rglob("*") if not file.name.endswith(".lock")]
    assert left == []


KILLED = """
import sys, time
from pathlib import Path
from ocl_edge.tensorrt.key import EngineKey
from ocl_edge.tensorrt.store import build_lock, staging_directory
directory, key = Path(sys.argv[1]), EngineKey.model_validate_json(sys.argv[2])
with build_lock(directory, key, print), staging_directory(directory, key) as staging:
    (staging / "half.engine").write_text("half")
    print("building", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_build_leaves_behind_is_removed_and_what_a_running_one_uses_is_not(
    bundle: Bundle,
) -> None:
    directory = bundle.path / "engines"
    directory.mkdir()
    keys = plan_build(bundle, plain_only(forms=("plain", "modulated", "measured")))
    killed, running, ours = keys
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED, str(directory), key.model_dump_json()], stdout=subprocess.PIPE
        )
        for key in (killed, running)
    ]
    try:
        assert [process.stdout.readline() for process in processes if process.stdout] == [b"building\n"] * 2
        processes[0].kill()
        processes[0].wait()
        assert len(list(directory.glob(".build.*"))) == 2
        with build_lock(directory, ours, print), staging_directory(directory, ours) as staging:
            there = {path.name for path in directory.glob(".build.*")}
            assert there == {staging.name, f".build.{running.directory}.modulated"}
            assert list(staging.iterdir()) == []
        assert (directory / f".build.{running.directory}.modulated" / "half.engine").exists()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    with build_lock(directory, running, print), staging_directory(directory, running) as staging:
        assert list(staging.iterdir()) == []  # its own, left by one that was killed, too
    assert list(directory.glob(".build.*")) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": ("sm87",)}, r"does not build for sm87; it knows sm75, .*sm89"),
        ({"min_batch": 2}, "batches must rise"),
        ({"precision": "int8"}, "--calibration DIR"),
        ({"labels": Path("labels")}, "--labels belong to the images of --calibration"),
    ],
)
def test_wrong_requests_are_refused(bundle: Bundle, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_build(bundle, plain_only(**fields))


@pytest.mark.skipif(has_driver(), reason="there is a GPU here")
def test_without_a_gpu_targets_are_needed(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"no NVIDIA driver here.*--targets sm86,sm89"):
        plan_build(bundle, plain_only(targets=()))


def test_a_graph_that_the_parser_refuses_names_the_node(tmp_path: Path) -> None:
    node = helper.make_node("NotAnOperator", ["image"], ["y"], name="the_culprit")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([node], "g", [image], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "bad.onnx")
    with pytest.raises(
        BuildError, match=r"cannot read the graph .*bad\.onnx:\n  node the_culprit \(NotAnOperator\)"
    ):
        run_worker(job_for(tmp_path / "bad.onnx", tmp_path), 60)


def test_a_graph_that_cannot_run_on_a_target_fails_with_what_the_library_said(tmp_path: Path) -> None:
    """Histogram by scatter with a sum: parsed, but no kernel exists."""
    names = [("data", TensorProto.FLOAT), ("at", TensorProto.INT64), ("add", TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info(name, kind, [1, 8]) for name, kind in names]
    node = helper.make_node(
        "ScatterElements", [name for name, _ in names], ["y"], axis=1, reduction="add", name="histogram"
    )
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])
    graph = helper.make_graph([node], "g", inputs, [output])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "scatter.onnx")
    with pytest.raises(BuildError, match=r"scatter\.onnx"):
        run_worker(job_for(tmp_path / "scatter.onnx", tmp_path), 60)


def job_for(onnx: Path, directory: Path) -> dict[str, Any]:
    fixed = {"shapes": {}, "targets": ["sm86"], "workspace_mib": None, "tf32": False}
    return {
        "job": "build",
        "flavour": "tensorrt-rtx",
        "onnx": str(onnx),
        "engine": str(directory / "e"),
        **fixed,
    }


def test_the_command_line_plans_builds_and_reports(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "build",
        str(bundle.path),
        "--backend",
        "tensorrt-rtx",
        "--targets",
        "sm86",
        "--forms",
        "plain",
    ]
    assert run([*command, "--dry-run", "--json", "-"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert [(entry["key"]["form"], entry["built"]) for entry in plan] == [("plain", False)]
    assert list_engines(bundle) == []
    assert run([*command, "--json", "-"]) == 0
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert engine["built"]
    assert Path(engine["path"]).stat().st_size == engine["bytes"]
    assert engine["build_s"] > 0
    assert run([*command, "--input-size", "96x128"]) == 2
    assert "the bundle is 48x64" in capsys.readouterr().err
    assert run([*command[:-1], "sharp"]) == 2
    assert "known: plain,modulated,measured,head,head_step" in capsys.readouterr().err
    assert run([*command[:-1], "plain,head_step", "--dry-run", "--json", "-"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert [(entry["key"]["form"], entry["built"]) for entry in plan] == [
        ("plain", True),
        ("head_step", False),
    ]
    assert run([*command, "--targets", "ampere"]) == 2


def test_an_engine_that_came_with_the_bundle_is_code_of_a_stranger(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = device(compute_capability="sm86")
    (built,) = build_engines(bundle, plain_only())
    assert find_engine(bundle, "plain", here).path == built.engine.path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another user"))
    with pytest.raises(NoValidEngineError, match=r"1 that came with .* not built here.*--trust-engines"):
        find_engine(bundle, "plain", here)
    assert find_built(bundle, bundle.path / "engines", built.engine.record.key) is None
    assert run(["build", str(bundle.path), "--backend", "tensorrt-rtx", "--trust-engines"]) == 0
    assert find_engine(bundle, "plain", here).record == built.engine.record
    assert trust_engines(bundle) == []


def test_a_damaged_engine_is_not_taken(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (built,) = build_engines(bundle, plain_only())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another user"))
    built.engine.path.write_bytes(b"another program")
    with pytest.raises(NoValidEngineError, match="is damaged"):
        trust_engines(bundle)


def test_builds_follow_no_links(bundle: Bundle, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    key = plan_build(bundle, plain_only())[0]
    shutil.rmtree(bundle.path / "engines", ignore_errors=True)
    (bundle.path / "engines").mkdir()
    os.symlink(precious, bundle.path / "engines" / f".{key.directory}.plain.lock")
    with pytest.raises(BuildError, match="symbolic links"), build_lock(bundle.path / "engines", key, print):
        pass
    shutil.rmtree(bundle.path / "engines")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", bundle.path / "engines")
    assert writable_directory(bundle) == engine_directories(bundle)[1]
    assert precious.read_text("utf-8") == "precious"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_plan_is_kept_and_shown_and_a_time_is_estimated_from_it(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", str(bundle.path), "--backend", "tensorrt-rtx", "--targets", "sm86"]
    assert run(["profile", str(bundle.path), "--estimate", "agx-orin"]) == 2
    assert "ocl-edge build" in capsys.readouterr().err
    assert run([*command, "--forms", "plain,head", "--plan"]) == 0
    told = capsys.readouterr()
    assert "the 10 kernels that move the most" in told.out
    assert "head: tensorrt-rtx" in told.err
    plans = {engine.record.key.form: engine.record.plan for engine in list_engines(bundle)}
    assert plans["head"] is None
    plan = plans["plain"]
    assert plan is not None
    assert any(kernel.module for kernel in plan.kernels)
    image = 3 * bundle.manifest.input.height * bundle.manifest.input.width * 4
    assert plan.bytes > 2 * image
    assert run(["inspect", str(bundle.path), "--plan", "--json", "-"]) == 0
    engines = json.loads(capsys.readouterr().out)["engines"]
    assert {len((engine["plan"] or {"kernels": ()})["kernels"]) for engine in engines} == {
        0,
        len(plan.kernels),
    }
    assert run(["inspect", str(bundle.path), "--plan"]) == 0
    assert f"{plan.bytes / 1e6:,.0f} MB" in capsys.readouterr().out
    assert run(["profile", str(bundle.path), "--estimate", "100:1", "--json", "-"]) == 0
    (estimate,) = json.loads(capsys.readouterr().out)["estimates"]
    at_least = max(plan.bytes / 100e9, plan.operations / 1e12) * 1000
    assert estimate["ms"] >= at_least + estimate["launches_ms"]
    assert estimate["launches_ms"] == pytest.approx(0.002 * len(plan.kernels))
