"""Several outputs with compiled heads, with updates in the background, and of several cameras."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.verdict import Reason
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.session import opening_outputs
from ocl_edge_runtime.session.cameras import open_cameras_of_outputs
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.opening_outputs import open_outputs
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.two_tasks import HEIGHT, WIDTH, export_tasks
from tests.doubles.workers import HandExecutor

LEARNS = RealtimeOptions(norm_every=3, adapt_every=1, statistics_limit=1e9)
FRAMES = 6
CAMERAS = ("front", "rear")


def options(head: str = "torch", backend: str = "onnxruntime") -> SessionOptions:
    return SessionOptions(
        lr=0.05,
        seed=4,
        threads=1,
        opening=1.0,
        head=head,
        backend=backend,  # type: ignore[arg-type]
    )


def frame(index: int, camera: str = "front") -> np.ndarray:
    return random_image(100 * CAMERAS.index(camera) + index, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def of_heads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Bundle]]:
    """Two heads that read features of their own, and two that can be compiled."""
    made = {"torch": "detecting", "engine": "one_feature"}
    return {head: export_tasks(tmp_path_factory.mktemp(name), name) for head, name in made.items()}


@pytest.fixture
def tasks(of_heads: dict[str, dict[str, Bundle]]) -> dict[str, Bundle]:
    return of_heads["torch"]


@pytest.mark.parametrize("mode", ["realtime", "paper"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_compiled_heads_learn_as_each_does_alone(
    of_heads: dict[str, dict[str, Bundle]], backend: str, mode: str
) -> None:
    tasks = of_heads["engine"]
    rules = LEARNS if mode == "realtime" else None
    how = options("engine", backend), rules
    with open_outputs(tasks, *how, SimulatedClock()) as outputs:
        together = [outputs.step(frame(i), float(i)) for i in range(FRAMES)]
        for name, bundle in tasks.items():
            with open_session(bundle, *how, SimulatedClock()) as alone:
                for index, results in enumerate(together):
                    expected = alone.step(frame(index), float(index))
                    assert np.array_equal(results[name].mask, expected.mask), (name, index)
                    assert expected.verdict.applied
                    assert results[name].verdict == expected.verdict
                assert outputs[name].weights.weights_sha256() == alone.weights.weights_sha256()


BACKGROUND = replace(LEARNS, update="background")


@pytest.mark.parametrize("head", ["torch", "engine"])
def test_updates_in_the_background_are_those_of_each_alone(
    of_heads: dict[str, dict[str, Bundle]], head: str
) -> None:
    tasks = of_heads[head]
    hand = HandExecutor()
    with open_outputs(tasks, options(head), BACKGROUND, SimulatedClock(), hand) as outputs:
        alone = {
            name: open_session(bundle, options(head), LEARNS, SimulatedClock())
            for name, bundle in tasks.items()
        }
        for index in range(FRAMES):
            results = outputs.step(frame(index), float(index))
            for name, session in alone.items():
                expected = session.predict(frame(index), float(index))
                assert np.array_equal(results[name].mask, expected), (name, index)
                assert results[name].verdict.reason is Reason.IN_BACKGROUND
                assert (results[name].background is not None) == (index > 0)
                verdict = session.adapt()
                assert verdict.applied
            hand.land_all()
        for name, session in alone.items():
            outputs[name].settle()
            assert outputs[name].weights.weights_sha256() == session.weights.weights_sha256()
            session.close()


def test_updates_of_all_outputs_start_and_land_together(tasks: dict[str, Bundle]) -> None:
    hand = HandExecutor()
    with open_outputs(tasks, options(), BACKGROUND, SimulatedClock(), hand) as outputs:
        outputs.step(frame(0), 0.0)
        hand.land_first()
        half = outputs.step(frame(1), 1.0)
        assert all(result.background is None for result in half.values()), "one of two has landed"
        assert {result.verdict.reason for result in half.values()} == {Reason.WORKER_BUSY}
        hand.land_all()
        both = outputs.step(frame(2), 2.0)
        assert {result.background.behind for result in both.values() if result.background} == {2}
        assert all(result.background for result in both.values())
        assert {result.verdict.reason for result in both.values()} == {Reason.IN_BACKGROUND}
        hand.land_all()


def test_a_head_that_the_guard_has_stopped_holds_up_no_other(tasks: dict[str, Bundle]) -> None:
    hand = HandExecutor()
    with open_outputs(tasks, options(), BACKGROUND, SimulatedClock(), hand) as outputs:
        outputs.lead.updates.learner.may_learn = lambda: False  # type: ignore[method-assign]
        for index in range(3):
            results = outputs.step(frame(index), float(index))
            assert results["area"].verdict.reason is Reason.FROZEN_BY_GUARD
            assert results["lanes"].verdict.reason is Reason.IN_BACKGROUND
            assert (results["lanes"].background is not None) == (index > 0)
            hand.land_all()


def test_the_worker_runs_the_flipped_view_once_for_all(
    tasks: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, hand = [], HandExecutor()
    opened = opening_outputs.open_worker_backend

    def counted(*what: Any) -> Backend:
        backend = opened(*what)
        infer = backend.infer
        backend.infer = lambda form, inputs: ran.append(form) or infer(form, inputs)  # type: ignore[method-assign]
        return backend

    monkeypatch.setattr(opening_outputs, "open_worker_backend", counted)
    with open_outputs(tasks, options(), BACKGROUND, SimulatedClock(), hand) as outputs:
        for index in range(3):
            outputs.step(frame(index), float(index))
            hand.land_all()
    assert ran == ["measured"] * 3


@pytest.mark.parametrize("head", ["torch", "engine"])
@pytest.mark.parametrize("rules", [LEARNS, None], ids=["realtime", "paper"])
def test_every_output_of_every_camera_is_as_if_it_were_alone(
    of_heads: dict[str, dict[str, Bundle]], head: str, rules: RealtimeOptions | None
) -> None:
    tasks = of_heads[head]
    how = options(head), rules, SimulatedClock()
    with open_cameras_of_outputs(tasks, CAMERAS, *how) as cameras:
        together = [
            cameras.step({camera: frame(i, camera) for camera in CAMERAS}, float(i)) for i in range(FRAMES)
        ]
        for camera in CAMERAS:
            with open_outputs(tasks, *how) as alone:
                for index, results in enumerate(together):
                    expected = alone.step(frame(index, camera), float(index))
                    for name in tasks:
                        assert np.array_equal(results[camera][name].mask, expected[name].mask)
                        assert results[camera][name].verdict == expected[name].verdict
                        assert expected[name].verdict.applied
                for name, session in alone.items():
                    assert cameras[camera][name].weights.weights_sha256() == session.weights.weights_sha256()
        learned = {s.weights.weights_sha256() for outputs in cameras.values() for s in outputs.values()}
        assert len(learned) == len(CAMERAS) * len(tasks)


def test_cameras_may_teach_one_head_of_each_output(tasks: dict[str, Bundle]) -> None:
    how = options(), LEARNS, SimulatedClock()
    with open_cameras_of_outputs(tasks, CAMERAS, *how, share="head") as cameras:
        for index in range(3):
            results = cameras.step({camera: frame(index, camera) for camera in CAMERAS}, float(index))
            assert all(each.verdict.applied for of in results.values() for each in of.values())
        for name in tasks:
            assert len({outputs[name].weights.weights_sha256() for outputs in cameras.values()}) == 1
        assert len({session.weights.weights_sha256() for session in cameras["front"].values()}) == 2
