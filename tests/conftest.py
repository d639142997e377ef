from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from tests.doubles import small_network
from tests.doubles.bundles import export_small
from tests.doubles.gstreamer import rtsp_server
from tests.doubles.images import random_image
from tests.doubles.ros_graph import graph, other

torch.set_num_threads(1)

__all__ = ["graph", "other", "rtsp_server"]
"""Fixtures that live beside what they start."""

DATA = Path(os.environ.get("OCL_EDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))


SLOW = (
    "tests/app/cli",
    "tests/app/demo",
    "tests/app/evaluation",
    "tests/app/report/test_in_browser.py",
    "tests/bench",
    "tests/docs/test_commands.py",
    "tests/export",
    "tests/footage",
    "tests/hostile",
    "tests/ocl_edge/network/programs",
    "tests/runtime/backends/test_backends.py",
    "tests/runtime/backends/test_tensorrt_backend.py",
    "tests/runtime/records",
    "tests/runtime/ros/test_topics.py",
    "tests/runtime/session/test_background.py",
    "tests/runtime/session/test_without_norms.py",
    "tests/runtime/sinks/test_stream.py",
    "tests/runtime/sources/test_gstreamer.py",
    "tests/scripts",
)
"""What ``make test-fast`` leaves out: exports of their own, child processes, whole verbs, real footage."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow. Without the footage its tests are skipped; where CI runs they must not be."""
    root = Path(__file__).parents[1]
    for item in items:
        if item.path.relative_to(root).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    if DATA.is_dir() or os.environ.get("CI"):
        return
    for item in items:
        if item.get_closest_marker("footage"):
            item.add_marker(pytest.mark.skip(reason=f"no footage in {DATA} (set OCL_EDGE_DATA)"))


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What ocl-edge caches does not outlive the tests; pip keeps its own cache."""
    with pytest.MonkeyPatch.context() as patch:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        patch.setenv("PIP_CACHE_DIR", os.environ.get("PIP_CACHE_DIR") or str(caches / "pip"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    assert DATA.is_dir(), f"the footage is missing: {DATA}"
    return DATA


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.pth"
    torch.save(small_network.trained().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory, small_checkpoint: Path) -> Bundle:
    """The small network, statistics from every row."""
    return export_small(tmp_path_factory.mktemp("bundle") / "small", small_checkpoint, stat_rows=1)


@pytest.fixture(scope="session")
def sampled_bundle(tmp_path_factory: pytest.TempPathFactory, small_checkpoint: Path) -> Bundle:
    """The small network, statistics from every fourth row."""
    return export_small(tmp_path_factory.mktemp("bundle") / "sampled", small_checkpoint, stat_rows=4)


@pytest.fixture(scope="session")
def published_bundle(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Bundle:
    """ESPNetv2 as published, statistics from every row, gated on real frames."""
    checkpoint = data / "models" / "espnetv2_s_2.0_city_1024x512.pth"
    out = tmp_path_factory.mktemp("espnetv2") / "bundle"
    frames = data / "camvid" / "0001TP" / "images"
    return export_bundle(
        ExportRequest(checkpoint, out, input_size=(384, 512), calibration=frames, stat_rows=1)
    )


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six PNG frames of 40x50 pixels, in a directory."""
    directory = tmp_path_factory.mktemp("frames")
    for index in range(6):
        Image.fromarray(random_image(index)).save(directory / f"frame_{index:02d}.png")
    return directory
