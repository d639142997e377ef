"""Background updates on a GPU's second stream, against a double of CUDA that finds every missing wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.backends import lane_of, tensorrt_backend
from ocl_edge_runtime.backends.lane import CudaLane, PyCudaLane
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from ocl_edge_runtime.session.engine import EngineOptions, HeadKind
from ocl_edge_runtime.session.realtime import RealtimeEngine, RealtimeOptions
from tests.doubles import pycuda as fake_pycuda
from tests.doubles.cuda import Event, FakeCuda, Stream
from tests.doubles.images import random_image
from tests.doubles.tensorrt import fake_library, store_fake_engines

IN_BACKGROUND = RealtimeOptions(norm_every=2, adapt_every=1, statistics_limit=1e9, update="background")


class Held(Executor):
    """A worker that does its work when it is told to."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.work.append(lambda: future.set_result(work(*args, **kwargs)))
        return future

    def do(self) -> None:
        while self.work:
            self.work.pop(0)()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCuda:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fake = FakeCuda(monkeypatch)
    monkeypatch.setattr(tensorrt_backend, "open_library", fake_library)
    monkeypatch.setattr(tensorrt_backend, "open_device", fake.device)
    real = tensorrt_backend.TensorRtBackend
    monkeypatch.setattr(
        tensorrt_backend,
        "TensorRtBackend",
        type(
            "WithoutGraphs",
            (real,),
            {"__init__": lambda self, *a, **k: real.__init__(self, *a, cuda_graphs=False, **k)},
        ),
    )
    return fake


def opened(bundle: Bundle, head: HeadKind = "engine") -> tuple[RealtimeEngine, Held]:
    store_fake_engines(bundle)
    engine = RealtimeEngine(bundle, EngineOptions(backend="tensorrt", head=head, lr=0.01), IN_BACKGROUND)
    worker = Held()
    assert engine._background is not None
    engine._background.executor = worker
    return engine, worker


def run_frames(engine: RealtimeEngine, worker: Held, cuda: FakeCuda, frames: int = 5) -> int:
    """Every update lands one frame later; how many there were."""
    landed = 0
    with cuda:
        for index in range(frames):
            engine.predict(random_image(index))
            landed += engine._taken_in is not None
            engine.adapt()
            if index % 2:
                worker.do()
    return landed


def test_masks_go_first_and_no_wait_is_missing(small_bundle: Bundle, cuda: FakeCuda) -> None:
    engine, worker = opened(small_bundle)
    assert [stream.priority for stream in cuda.streams] == [0, -1, 0]  # the caller's, masks, updates
    assert run_frames(engine, worker, cuda) == 2
    assert cuda.races == []
    assert cuda.shared > 50
    assert all(stream.clock[stream.cuda_stream] for stream in cuda.streams)
    assert engine.head.distance_from_source() > 0
    assert engine.head.weights_sha256() == engine.updater.head.weights_sha256()


def test_a_head_in_pytorch_keeps_its_updates_in_their_lane_too(small_bundle: Bundle, cuda: FakeCuda) -> None:
    engine, worker = opened(small_bundle, "torch")
    assert run_frames(engine, worker, cuda) == 2
    assert cuda.races == []


def test_a_mask_waits_for_nothing_of_an_update_in_flight(small_bundle: Bundle, cuda: FakeCuda) -> None:
    engine, worker = opened(small_bundle)
    caller, masks, updates = cuda.streams
    with cuda:
        engine.predict(random_image(0))
        engine.adapt()
        worker.do()
        engine.predict(random_image(1))
        known = caller.clock[updates.cuda_stream]
        assert known == masks.clock[updates.cuda_stream] == updates.clock[updates.cuda_stream] > 0
        engine.adapt()
        work = worker.work.pop()
        with cuda.switch(caller):
            engine.predict(random_image(2))  # the update was handed over, and nothing waits for it
        work()  # now it is on its stream, and the next mask takes it in before it makes its own
        assert updates.clock[updates.cuda_stream] > known
    assert caller.clock[updates.cuda_stream] == masks.clock[updates.cuda_stream] == known
    assert updates.synchronised == 0


def no_wait(self: CudaLane, point: Event) -> None:
    pass


def event_of_nothing(self: CudaLane) -> Event:
    return Event()


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        ((CudaLane, "wait_for"), no_wait),
        ((CudaLane, "mark"), event_of_nothing),
        ((Stream, "wait_event"), no_wait),
        ((Stream, "wait_stream"), no_wait),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_the_double_finds_a_missing_wait(
    small_bundle: Bundle,
    cuda: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    target: tuple[type, str],
    broken: Any,
) -> None:
    monkeypatch.setattr(*target, broken)
    engine, worker = opened(small_bundle)
    run_frames(engine, worker, cuda)
    assert cuda.races


def test_pycudas_context_is_the_workers_while_it_works() -> None:
    log: list[str] = []
    with PyCudaLane(fake_pycuda.Context(log)).work_after(None, []):
        log.append("update")
    assert log == ["push", "update", "pop"]


def test_on_the_cpu_there_is_nothing_to_order(small_bundle: Bundle) -> None:
    lane = lane_of(OnnxRuntimeBackend(small_bundle))
    point = lane.mark()
    with lane.work_after(point, []):
        lane.wait_for(point)
    assert point is None
