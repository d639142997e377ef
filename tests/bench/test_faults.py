"""Faults in a drive with exact labels: afterwards realtime mode is no worse than the frozen network.

The drawn drive and the network that ship with the demo. A stream is good frames, faulty ones,
and good ones that are scored, frozen and adapted on the same frames. bench/faults.py does the
same on real footage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.verdict import Reason
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_app.demo.world.drive import FIRST_DRIVE_SEED, FRAMES_PER_S, DriveFrame, record
from ocl_edge_app.demo.world.measure import SHIPPED
from ocl_edge_app.demo.world.scene import Scene
from ocl_edge_app.demo.world.weather import NIGHT, RAIN, Weather
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session

BEFORE, FAULTY, AFTER = 6, 8, 20
TOLERANCE = 0.01  # mIoU

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(ExportRequest(SHIPPED, tmp_path_factory.mktemp("demo") / "bundle"))


def filmed(weather: Weather, frames: int) -> list[DriveFrame]:
    scene = Scene(FIRST_DRIVE_SEED + 3)
    return [
        DriveFrame(*record(scene, index / FRAMES_PER_S, weather, (3, index)), stretch="", index=index)
        for index in range(frames)
    ]


@pytest.fixture(scope="module")
def rain() -> list[DriveFrame]:
    """Weather in which the frozen network is bad, and norms help."""
    return filmed(RAIN, BEFORE + FAULTY + AFTER)


@pytest.fixture(scope="module")
def night() -> list[DriveFrame]:
    return filmed(NIGHT, FAULTY)


@pytest.fixture(scope="module")
def frozen(demo_bundle: Bundle, rain: list[DriveFrame]) -> float:
    session = open_session(demo_bundle, SessionOptions("frozen", threads=1))
    return miou([(session.predict(frame.image), frame.labels) for frame in rain[-AFTER:]])


def miou(pairs: list[tuple[Pixels, Pixels]]) -> float:
    matrix = ConfusionMatrix(32)
    for mask, labels in pairs:
        matrix.add(mask, labels)
    return matrix.miou()


def noise(image: Pixels, step: int) -> Pixels:
    return np.random.default_rng(step).integers(0, 256, image.shape, dtype=np.uint8)


def sensor_noise(image: Pixels, step: int) -> Pixels:
    grain = np.random.default_rng(step).integers(-2, 3, image.shape)
    return (image + grain).clip(0, 255).astype(np.uint8)


def half_covered(image: Pixels, _step: int) -> Pixels:
    covered = image.copy()
    covered[:, : image.shape[1] // 2] = 0
    return covered


def resized(image: Pixels, step: int) -> Pixels:
    size = ((120, 90), (640, 384), (33, 200))[step % 3]
    return np.array(Image.fromarray(image).resize(size))


class NanBackend:
    """A backend whose outputs of one kind are NaN while ``broken``."""

    def __init__(self, session: Session, kind: str) -> None:
        self.broken = False
        self._kind = kind
        self._infer = session.segmenter.backbone.infer
        session.segmenter.backbone.infer = self.infer  # type: ignore[method-assign]

    def infer(self, form: str, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self._infer(form, inputs)  # type: ignore[arg-type]
        if not self.broken:
            return outputs
        return {
            n: torch.full_like(t, torch.nan) if n.startswith(self._kind) else t for n, t in outputs.items()
        }


@dataclass
class Outcome:
    """mIoU of the frames after the fault, why updates in the fault were or were not applied, the session."""

    miou: float
    kinds: Counter[Reason]
    session: Session


def play(
    bundle: Bundle,
    frames: list[DriveFrame],
    change: Callable[[Pixels, int], Pixels] = lambda image, _step: image,
    *,
    lr_times: float = 1.0,
    nan: str = "nothing",
    every: int = 1,
    **realtime: object,
) -> Outcome:
    options = RealtimeOptions(every, every, **realtime)  # type: ignore[arg-type]
    session = open_session(bundle, SessionOptions(threads=1, opening=1.0), options)
    backend, pace = NanBackend(session, nan), session.updates.learner.pace
    settings, kinds, after = pace.settings, Counter[Reason](), []
    for step, frame in enumerate(frames):
        broken = BEFORE <= step < len(frames) - AFTER
        backend.broken = broken
        pace.settings = settings.model_copy(update={"lr": settings.lr * (lr_times if broken else 1)})
        image = change(frame.image, step) if broken else frame.image
        mask = session.predict(image, 0.1 * step)
        assert mask.shape == image.shape[:2]
        reason = session.adapt().reason
        if broken:
            kinds[reason] += 1
        elif step > BEFORE:
            after.append((mask, frame.labels))
    return Outcome(miou(after), kinds, session)


def holds(outcome: Outcome, frozen: float) -> None:
    tensors, _ = outcome.session.export_state()
    assert all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point())
    assert outcome.miou > frozen - TOLERANCE


REFUSED = {
    "black": (lambda image, _step: np.zeros_like(image), Reason.BLANK),
    "white": (lambda image, _step: np.full_like(image, 255), Reason.BLANK),
}
USED: dict[str, Callable[[Pixels, int], Pixels]] = {
    "half covered": half_covered,
    "changing size": resized,
}


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("fault", REFUSED)
def test_frames_that_show_nothing_teach_nothing(
    demo_bundle: Bundle, rain: list[DriveFrame], frozen: float, fault: str, every: int
) -> None:
    change, reason = REFUSED[fault]
    outcome = play(demo_bundle, rain, change, every=every)
    assert outcome.kinds[reason] >= FAULTY // every
    assert outcome.kinds[Reason.ADAPTED] == 0
    holds(outcome, frozen)


@pytest.mark.parametrize("every", [1, 4])
def test_noise_does_no_lasting_harm(
    demo_bundle: Bundle, rain: list[DriveFrame], frozen: float, every: int
) -> None:
    """Refused by its statistics or undone by the guard, as the network has it."""
    outcome = play(demo_bundle, rain, noise, every=every)
    assert outcome.kinds[Reason.BLANK] == 0
    holds(outcome, frozen)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("fault", USED)
def test_a_bad_view_does_no_lasting_harm(
    demo_bundle: Bundle, rain: list[DriveFrame], frozen: float, fault: str, every: int
) -> None:
    outcome = play(demo_bundle, rain, USED[fault], every=every)
    assert outcome.kinds[Reason.ADAPTED] > 0 or every > 1  # there the lagging vectors may refuse it all
    holds(outcome, frozen)


def test_a_frozen_camera_teaches_nothing(demo_bundle: Bundle, rain: list[DriveFrame], frozen: float) -> None:
    still = rain[:BEFORE] + [rain[BEFORE - 1]] * FAULTY + rain[BEFORE + FAULTY :]
    outcome = play(demo_bundle, still)
    assert outcome.kinds == {Reason.REPEATED: FAULTY}
    holds(outcome, frozen)


def test_a_frozen_scene_under_sensor_noise_does_no_lasting_harm(
    demo_bundle: Bundle, rain: list[DriveFrame], frozen: float
) -> None:
    still = rain[:BEFORE] + [rain[BEFORE - 1]] * 50 + rain[BEFORE + FAULTY :]
    outcome = play(demo_bundle, still, sensor_noise)
    assert outcome.kinds[Reason.ADAPTED] > 0
    holds(outcome, frozen)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [("features", Reason.FEATURES_NOT_FINITE), ("statistics", Reason.STATISTICS_TOO_FAR)],
)
def test_nan_from_a_backend_is_undone_by_nothing_but_the_next_frame(
    demo_bundle: Bundle, rain: list[DriveFrame], frozen: float, kind: str, reason: Reason, every: int
) -> None:
    outcome = play(demo_bundle, rain, nan=kind, every=every)
    assert outcome.kinds[reason] >= FAULTY // every
    assert outcome.kinds[Reason.ADAPTED] == 0
    assert outcome.session.updates.learner.guard.rollbacks == 0  # it was not the head's fault
    holds(outcome, frozen)


@pytest.mark.parametrize("every", [1, 4])
def test_sudden_changes_of_the_world(
    demo_bundle: Bundle, rain: list[DriveFrame], night: list[DriveFrame], frozen: float, every: int
) -> None:
    outcome = play(demo_bundle, rain[:BEFORE] + night + rain[BEFORE + FAULTY :], every=every)
    assert outcome.kinds[Reason.ADAPTED] > 0 or every > 1
    holds(outcome, frozen)


def test_a_learning_rate_a_thousand_times_too_high_collapses_without_the_guard_and_not_with_it(
    demo_bundle: Bundle, rain: list[DriveFrame], frozen: float
) -> None:
    guarded = play(demo_bundle, rain, lr_times=1000)
    assert guarded.session.updates.learner.guard.rollbacks > 0
    holds(guarded, frozen)
    unguarded = play(demo_bundle, rain, lr_times=1000, guarded=False)
    assert unguarded.miou < frozen - 0.05


def test_weights_that_became_nan_are_replaced(
    demo_bundle: Bundle, rain: list[DriveFrame], frozen: float
) -> None:
    """As after a flipped bit in memory: the features are fine, the loss is not."""
    session = open_session(demo_bundle, SessionOptions(threads=1, opening=1.0), RealtimeOptions(1, 1))
    after = []
    for step, frame in enumerate(rain):
        if step == BEFORE:
            with torch.no_grad():
                next(iter(session.weights.parameters.values())).view(-1)[0] = torch.nan
        result = session.step(frame.image)
        if step == BEFORE:
            assert str(result.verdict) == "roll back: the loss is not finite"
        elif step > BEFORE:
            assert "not finite" not in str(result.verdict)
        if step >= BEFORE + FAULTY:
            after.append((result.mask, frame.labels))
    assert miou(after) > frozen
    assert session.updates.learner.guard.rollbacks == 1


def test_many_rounds_of_the_same_frames(demo_bundle: Bundle, rain: list[DriveFrame]) -> None:
    """The last of ten rounds is no worse than frozen on the same frames."""
    few = rain[::3]
    session = open_session(demo_bundle, SessionOptions(threads=1, opening=1.0), RealtimeOptions(1, 1))
    plain = open_session(demo_bundle, SessionOptions("frozen", threads=1))
    for _ in range(10):
        last = [(session.step(frame.image).mask, frame.labels) for frame in few]
    assert miou(last) > miou([(plain.predict(frame.image), frame.labels) for frame in few])
