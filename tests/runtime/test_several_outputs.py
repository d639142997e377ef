"""The loop for several outputs: frames that change size or cannot be used, and a sink that fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OutputError
from ocl_edge_runtime.records.state import StateStore
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.opening_outputs import open_outputs
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.several import Stream
from ocl_edge_runtime.several_outputs import run_outputs
from ocl_edge_runtime.sinks import Sink
from ocl_edge_runtime.sources import ImageSource
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.two_tasks import export_tasks

OPTIONS = SessionOptions(backend="onnxruntime", lr=0.05, threads=1, opening=1.0)
LEARNS = RealtimeOptions(norm_every=2, adapt_every=1, statistics_limit=1e9)
SIZES = [(48, 64), (48, 64), (30, 90), (48, 64)]


class Kept(Sink):
    """Masks in their order; from a frame on it fails, as a full disk does."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.masks: list[NDArray[np.uint8]] = []
        self._fails_at = fails_at

    def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
        if len(self.masks) == self._fails_at:
            raise OutputError(f"cannot write {frame.name}: No space left on device")
        self.masks.append(mask.copy())


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return export_tasks(tmp_path_factory.mktemp("tasks"), "one_feature")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Frames of two sizes; between them one that is none."""
    directory = tmp_path / "mixed"
    directory.mkdir()
    for index, size in enumerate(SIZES):
        Image.fromarray(random_image(index, *size)).save(directory / f"{index}.png")
    (directory / "1b.png").write_bytes(b"no picture")
    return directory


def test_a_frame_of_another_size_or_of_none_is_the_same_to_every_output(
    tasks: dict[str, Bundle], mixed: Path
) -> None:
    kept = {name: Kept() for name in tasks}
    source = ImageSource(str(mixed))
    streams = {name: Stream(source, [sink]) for name, sink in kept.items()}
    with open_outputs(tasks, OPTIONS, LEARNS, SimulatedClock()) as outputs:
        reports = run_outputs(outputs, source, streams)
        learned = {name: session.weights.weights_sha256() for name, session in outputs.items()}
    for name, report in reports.items():
        assert (report.frames, report.skipped, report.updates) == (4, 1, 4)
        assert [mask.shape for mask in kept[name].masks] == SIZES
        with open_session(tasks[name], OPTIONS, LEARNS, SimulatedClock()) as alone:
            for mask, frame in zip(kept[name].masks, ImageSource(str(mixed)), strict=True):
                assert np.array_equal(mask, alone.step(frame.image).mask)
            assert alone.weights.weights_sha256() == learned[name]


@pytest.mark.parametrize("broken", ["area", "lanes"])
def test_a_sink_that_fails_ends_the_run_and_costs_no_output_what_it_has_learned(
    tasks: dict[str, Bundle], mixed: Path, tmp_path: Path, broken: str
) -> None:
    kept = {name: Kept(2 if name == broken else None) for name in tasks}
    source = ImageSource(str(mixed))
    streams = {name: Stream(source, [sink]) for name, sink in kept.items()}
    with open_outputs(tasks, OPTIONS, LEARNS, SimulatedClock()) as outputs:
        with pytest.raises(OutputError, match=r"cannot write 2: No space left|cannot write 2\.png: No space"):
            run_outputs(outputs, source, streams)
        for name, session in outputs.items():
            StateStore(tmp_path / name, session).save()
    assert [stream.report.updates for stream in streams.values()] == [2, 2]
    assert len(kept["area"].masks) == (2 if broken == "area" else 3), "what came before has its mask"
    with open_outputs(tasks, OPTIONS, LEARNS, SimulatedClock()) as outputs:
        for name, session in outputs.items():
            StateStore(tmp_path / name, session).resume("refuse")
            with open_session(tasks[name], OPTIONS, LEARNS, SimulatedClock()) as alone:
                for index in range(2):
                    alone.step(random_image(index, *SIZES[index]))
                assert alone.weights.weights_sha256() == session.weights.weights_sha256()
