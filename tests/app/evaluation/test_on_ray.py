"""Passes as tasks of a Ray cluster: two nodes on this machine, both of which are killed at some time."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import ClusterError, UsageError
from ocl_edge_app.cli import run
from ocl_edge_app.evaluation.on_ray import OnRay
from ocl_edge_app.evaluation.passes import Pass, run_passes
from ocl_edge_app.evaluation.plan import Asked, plan
from ocl_edge_app.evaluation.ray_cluster import connected
from ocl_edge_app.evaluation.ray_task import Job, packed, run_job, unpacked, versions_here
from ocl_edge_app.evaluation.what_is_scored import Named
from tests.doubles.ray_nodes import Nodes, command_of, nodes, pids, worker_at_work

NEVER_THE_SAME = ("ms_per_frame", "frame_ms", "memory_mib")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes() as opened:
        yield opened


@pytest.fixture(scope="module")
def labels(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory, generator = tmp_path_factory.mktemp("labels"), np.random.default_rng(0)
    for file in frames.iterdir():
        Image.fromarray(generator.integers(0, 5, (40, 50), dtype=np.uint8)).save(directory / file.name)
    return directory


def arguments(bundle: Bundle, frames: Path, labels: Path, *more: str) -> list[str]:
    given = ["evaluate", str(bundle.path), "--frames", str(frames), "--labels", str(labels)]
    return [*given, "--backend", "torch", "--threads", "1", *more]


def numbers(path: Path) -> dict[str, Any]:
    """What a file of results holds of each pass, but times and memory."""
    cells: dict[str, Any] = json.loads(path.read_text("utf-8"))["cells"]
    for cell in cells.values():
        for result in cell["rounds"]:
            for name in NEVER_THE_SAME:
                del result[name]
    return cells


def planned_on(
    bundle: Bundle, frames: Path, labels: Path, path: Path | None = None, of: str = ""
) -> list[Pass]:
    asked = {"": Asked(methods="frozen,norm", backend="torch", threads=1)}
    return plan(bundle, Named(frames=str(frames), labels=str(labels)), asked, path, of).passes


def untold(_each: Pass, _done: bool) -> Callable[[float], None]:
    return lambda _miou: None


def test_a_killed_worker_and_a_killed_node_lose_nothing(
    cluster: Nodes, small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path
) -> None:
    """Both die within a pass. Every number is that of a local run, bit for bit."""
    grid = ("--methods", "frozen,norm,ocl-head", "--seeds", "0,1,2,3", "--repeat", "12", "--opening", "1")
    assert run(arguments(small_bundle, frames, labels, *grid, "--json", str(tmp_path / "local.json"))) == 0
    second = cluster.add()
    killed: list[int] = []

    def kill() -> None:
        for victim in (lambda: worker_at_work(second), lambda: worker_at_work(second) and second):
            pid = victim()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    on_ray = ("--engine", "ray", "--address", cluster.address, "--json", str(tmp_path / "ray.json"))
    assert run(arguments(small_bundle, frames, labels, *grid, *on_ray)) == 0
    killer.join()
    assert len(killed) == 2
    assert killed[1] == second
    assert numbers(tmp_path / "ray.json") == numbers(tmp_path / "local.json")
    assert len(numbers(tmp_path / "ray.json")) == 6


def test_a_pass_that_fails_is_named_and_the_others_results_stay(
    cluster: Nodes, small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for index, file in enumerate(sorted(labels.iterdir())):
        size = (40, 49) if index == 3 else (40, 50)
        Image.fromarray(np.zeros(size, np.uint8)).save(wrong / file.name)
    bad = planned_on(small_bundle, frames, wrong, tmp_path / "bad.json", "small on wrong")
    good = planned_on(small_bundle, frames, labels, tmp_path / "good.json", "small on right")
    with connected(cluster.address) as ray, pytest.raises(UsageError) as caught:
        run_passes([*bad, *good], OnRay(ray), untold, lambda _file, _error: None)
    assert "small on wrong: frozen on clean, seed 0: on node" in str(caught.value)
    assert "frame_03.png is 49x40, its frame 50x40" in str(caught.value)
    assert "right" not in str(caught.value)
    assert len(numbers(tmp_path / "good.json")) == 2
    assert not (tmp_path / "bad.json").exists()


def test_ctrl_c_leaves_a_file_that_goes_on(
    cluster: Nodes,
    small_bundle: Bundle,
    frames: Path,
    labels: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "results.json"
    words = arguments(small_bundle, frames, labels, "--repeat", "12", "--json", str(path))
    command = [sys.executable, "-m", "ocl_edge", *words, "--engine", "ray", "--address", cluster.address]
    process = subprocess.Popen(command)
    wait_for(path.exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (130, 0)
    before = numbers(path)
    assert before
    capfd.readouterr()
    assert run(words) == 0
    assert f"{len(before)} of 3 passes are finished" in capfd.readouterr().err
    assert before.items() <= numbers(path).items()


def test_passes_for_which_no_node_is_large_enough_end_in_an_error(
    cluster: Nodes, small_bundle: Bundle, frames: Path, labels: Path
) -> None:
    passes = planned_on(small_bundle, frames, labels)
    large = [
        replace(each, trial=replace(each.trial, options=replace(each.trial.options, threads=64)))
        for each in passes
    ]
    with (
        connected(cluster.address) as ray,
        pytest.raises(ClusterError, match=r"2 passes wait, and no node that lives has the 64 CPUs"),
    ):
        run_passes(
            large,
            OnRay(ray, patience_s=0.1),
            lambda _each, _done: lambda _miou: None,
            lambda _file, _error: None,
        )


def test_what_was_started_here_ends_with_its_driver(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    words = arguments(small_bundle, frames, labels, "--repeat", "12", "--json", str(path))
    process = subprocess.Popen([sys.executable, "-m", "ocl_edge", *words, "--engine", "ray"])
    wait_for(path.exists)
    started = [
        pid for pid in pids() if "gcs_server" in command_of(pid) and f"_{process.pid}" in command_of(pid)
    ]
    assert len(started) == 1
    process.kill()
    process.wait()
    wait_for(lambda: not command_of(started[0]))
    assert numbers(path)


def wait_for(right: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not right():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def job_of(bundle: Bundle, frames: Path, labels: Path) -> Job:
    (each, _) = planned_on(bundle, frames, labels)
    unread = replace(each.scored.frames, pairs=())
    named = Named(frames=str(frames), labels=str(labels))
    return Job(
        each.trial,
        bundle.identity,
        [],
        named,
        unread,
        each.scored.space,
        each.evaluation.context,
        versions_here(),
    )


@pytest.fixture
def at_the_node(small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle in the cache of a node, where a task has put it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "ocl-edge" / "sweeps" / small_bundle.identity[:24]
    unpacked(packed(small_bundle), place)
    return place


def test_a_task_runs_on_the_same_files_alone(
    small_bundle: Bundle, frames: Path, labels: Path, at_the_node: Path, tmp_path: Path
) -> None:
    job = job_of(small_bundle, frames, labels)
    done = run_job(job)
    assert done.cell is not None
    assert done.cell["rounds"][0]["frames"] == 6
    other = tmp_path / "other"
    other.mkdir()
    for file in labels.iterdir():
        Image.fromarray(np.zeros((40, 50), np.uint8)).save(other / file.name)
    refused = run_job(replace(job, named=replace(job.named, labels=str(other))))
    assert refused.cell is None
    assert "every node must find the same files" in refused.refused
    missing = run_job(replace(job, named=replace(job.named, labels=str(tmp_path / "none"))))
    assert "none: there is no such directory" in missing.refused


def test_a_node_with_another_version_is_refused_by_name(
    small_bundle: Bundle, frames: Path, labels: Path, at_the_node: Path
) -> None:
    job = job_of(small_bundle, frames, labels)
    refused = run_job(replace(job, versions={**job.versions, "torch": "1.0"}))
    assert refused.cell is None
    assert f"torch {versions_here()['torch']} (expected 1.0)" in refused.refused


def test_a_damaged_bundle_at_a_node_is_sent_again(
    small_bundle: Bundle, frames: Path, labels: Path, at_the_node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        asked = 0

        def get(self, reference: str) -> dict[str, bytes]:
            assert reference == "reference"
            self.asked += 1
            return packed(small_bundle)

    library = Library()
    monkeypatch.setattr("ocl_edge_app.evaluation.ray_task.ray_library", lambda: library)
    job = replace(job_of(small_bundle, frames, labels), bundle=["reference"])
    assert run_job(job).cell is not None
    assert library.asked == 0
    (at_the_node / "manifest.json").write_text("damaged")
    assert run_job(job).cell is not None
    assert library.asked == 1
    assert Bundle.open(at_the_node).identity == small_bundle.identity


def test_an_address_where_nothing_listens_is_said_at_once(
    small_bundle: Bundle, frames: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    assert run(arguments(small_bundle, frames, labels, "--engine", "ray", "--address", "127.0.0.1:1")) == 1
    said = capsys.readouterr().err
    assert "--address 127.0.0.1:1: no Ray cluster that this machine is a node of (" in said
    assert "ray start --address=127.0.0.1:1" in said
    assert time.monotonic() - began < 10


def test_what_is_no_ray_head_is_said_at_once() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"127.0.0.1:{server.server_port}"
            with pytest.raises(ClusterError, match="no Ray head"), connected(address):
                pass
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("--address", "auto"), "--address auto names a Ray cluster: add --engine ray", 2),
        (("--engine", "ray", "--address", "ray://head:10001"), "expected auto or HOST[:PORT]", 2),
        (("--engine", "ray", "--address", "head:99999"), "expected auto or HOST[:PORT]", 2),
        (("--engine", "ray", "--address", ""), "expected auto or HOST[:PORT]", 2),
        (("--engine", "spark"), "'spark' is not one of", 2),
    ],
)
def test_wrong_addresses_are_explained(
    small_bundle: Bundle,
    frames: Path,
    labels: Path,
    options: tuple[str, ...],
    message: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(arguments(small_bundle, frames, labels, *options)) == code
    assert message in capsys.readouterr().err


def test_without_ray_the_extra_is_named(
    small_bundle: Bundle,
    frames: Path,
    labels: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(arguments(small_bundle, frames, labels, "--engine", "ray")) == 1
    assert "--engine ray needs ray: pip install 'ocl-edge[ray]'" in capsys.readouterr().err


def test_paths_are_the_same_from_any_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    named = Named(frames="a", labels="b").absolute()
    assert (named.frames, named.labels) == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert Named(dataset="acdc:data:night/val").absolute().dataset == f"acdc:{tmp_path}/data:night/val"
    assert Named(dataset="pairs:list.txt").absolute().dataset == f"pairs:{tmp_path}/list.txt"
    assert Named(dataset="kitti:s3://bucket/kitti").absolute().dataset == "kitti:s3://bucket/kitti"
