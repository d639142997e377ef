"""Background updates on a GPU's second stream, against a double of CUDA that finds every missing wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.backends import tensorrt_backend
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from ocl_edge_runtime.backends.update_stream import CudaUpdateStream, PyCudaUpdateStream
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import HeadKind, RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from tests.doubles import pycuda as fake_pycuda
from tests.doubles.cuda import Event, FakeCuda, Stream
from tests.doubles.images import random_image
from tests.doubles.tensorrt import fake_library, store_fake_engines
from tests.doubles.workers import HandExecutor

IN_BACKGROUND = RealtimeOptions(norm_every=2, adapt_every=1, statistics_limit=1e9, update="background")


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


def opened(bundle: Bundle, head: HeadKind = "engine") -> tuple[Session, HandExecutor]:
    store_fake_engines(bundle)
    worker, options = HandExecutor(), SessionOptions(backend="tensorrt", head=head, lr=0.01, opening=1.0)
    session = open_session(bundle, options, IN_BACKGROUND, executor=worker)
    return session, worker


def run_frames(session: Session, worker: HandExecutor, cuda: FakeCuda, frames: int = 5) -> int:
    """Every update lands one frame later; how many there were."""
    landed = 0
    with cuda:
        for index in range(frames):
            landed += session.step(random_image(index)).background is not None
            if index % 2:
                worker.land_all()
    return landed


def test_masks_go_first_and_no_wait_is_missing(small_bundle: Bundle, cuda: FakeCuda) -> None:
    session, worker = opened(small_bundle)
    assert [stream.priority for stream in cuda.streams] == [0, -1, 0]  # the caller's, masks, updates
    assert run_frames(session, worker, cuda) == 2
    assert cuda.races == []
    assert cuda.shared > 50
    assert all(stream.clock[stream.cuda_stream] for stream in cuda.streams)
    assert session.weights.distance_from_trained() > 0
    assert session.weights.weights_sha256() == session.updates.learner.weights.weights_sha256()


def test_a_head_in_pytorch_keeps_updates_on_their_stream_too(small_bundle: Bundle, cuda: FakeCuda) -> None:
    session, worker = opened(small_bundle, "torch")
    assert run_frames(session, worker, cuda) == 2
    assert cuda.races == []


def test_a_mask_waits_for_nothing_of_an_update_in_flight(small_bundle: Bundle, cuda: FakeCuda) -> None:
    session, worker = opened(small_bundle)
    caller, masks, updates = cuda.streams
    with cuda:
        session.predict(random_image(0))
        session.adapt()
        worker.land_all()
        session.predict(random_image(1))
        known = caller.clock[updates.cuda_stream]
        assert known == masks.clock[updates.cuda_stream] == updates.clock[updates.cuda_stream] > 0
        session.adapt()
        _, work = worker.waiting.pop()
        with cuda.switch(caller):
            session.predict(random_image(2))  # the update was handed over, and nothing waits for it
        work()  # now it is on its stream, and the next mask takes it in before it makes its own
        assert updates.clock[updates.cuda_stream] > known
    assert caller.clock[updates.cuda_stream] == masks.clock[updates.cuda_stream] == known
    assert updates.synchronised == 0


def no_wait(self: CudaUpdateStream, point: Event) -> None:
    pass


def event_of_nothing(self: CudaUpdateStream) -> Event:
    return Event()


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        ((CudaUpdateStream, "wait_for"), no_wait),
        ((CudaUpdateStream, "mark"), event_of_nothing),
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
    session, worker = opened(small_bundle)
    run_frames(session, worker, cuda)
    assert cuda.races


def test_pycudas_context_is_the_workers_while_it_works() -> None:
    log: list[str] = []
    with PyCudaUpdateStream(fake_pycuda.Context(log)).work_after(None, []):
        log.append("update")
    assert log == ["push", "update", "pop"]


def test_on_the_cpu_there_is_nothing_to_order(small_bundle: Bundle) -> None:
    stream = OnnxRuntimeBackend(small_bundle).update_stream
    point = stream.mark()
    with stream.work_after(point, []):
        stream.wait_for(point)
    assert point is None
