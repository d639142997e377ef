"""Realtime mode on a simulated clock: no test here sleeps."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.errors import UsageError
from ocl_edge.method.guard import GuardLimits
from ocl_edge.method.head import TrainableHead
from ocl_edge.method.methods import ocl
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import JUMP, RunningStatistics, statistics_distance
from ocl_edge.method.pixel_grid import PixelGrid
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sources import ImageSource, PacedSource
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY


# the small network has never seen the blobs of these tests: its statistics are far from the trained ones
def session_of(bundle: Bundle, clock: SimulatedClock | None = None, **changes: object) -> Session:
    options = SessionOptions(prior=0.8, lr=0.1, opening=1.0)
    return open_session(bundle, options, replace(ANY, **changes), clock or SimulatedClock())  # type: ignore[arg-type]


def test_measuring_every_frame_equals_the_measured_form(small_bundle: Bundle) -> None:
    session = session_of(small_bundle)
    for index in range(3):
        image = random_image(index)
        mask = session.predict(image, float(index))
        view = session.segmenter.preprocessor.single(image)
        outputs = session.segmenter.backbone.infer("measured", {"image": view, **session.norms.anchor})
        with torch.no_grad():
            logits = session.segmenter.head.logits([outputs["features_0"]])
        assert np.array_equal(mask, session.segmenter.tail.mask(logits, 40, 50))


def test_in_between_frames_use_the_running_average_of_measured_statistics(
    small_bundle: Bundle,
) -> None:
    session = session_of(small_bundle, norm_every=3, tau_s=2.0)
    session.norms.running.jump = math.inf  # the noise of one frame is far from another's
    measured = []
    backend_infer = session.segmenter.backbone.infer

    def recording(form, inputs):  # type: ignore[no-untyped-def]
        outputs = backend_infer(form, inputs)
        if form == "measured":
            measured.append(outputs["statistics"].clone())
        return outputs

    session.segmenter.backbone.infer = recording  # type: ignore[method-assign]
    forms = []
    for index in range(6):
        before = len(measured)
        session.predict(random_image(index), 0.5 * index)
        forms.append("measured" if len(measured) > before else "modulated")
    assert forms == ["measured", "modulated", "modulated"] * 2
    weight = 1 - math.exp(-1.5 / 2.0)
    average = measured[0] + weight * (measured[1] - measured[0])
    expected = session.norms.trained.vectors(0.8 * session.norms.trained.statistics + 0.2 * average)
    assert torch.allclose(session.norms.vectors, expected, atol=1e-5)


def test_measuring_under_fed_back_vectors_stays_out(small_bundle: Bundle) -> None:
    """Every measurement in the average is made under the trained anchor, never under the average."""
    session = session_of(small_bundle, norm_every=1)
    anchors = []
    backend_infer, running_add = session.segmenter.backbone.infer, session.norms.running.add

    def recording(form, inputs):  # type: ignore[no-untyped-def]
        if form == "measured":
            anchors.append((inputs["anchor_statistics"], inputs["anchor_weight"].clone()))
        return backend_infer(form, inputs)

    def checked(statistics, now_s):  # type: ignore[no-untyped-def]
        anchor, weight = anchors[-1]
        assert torch.equal(anchor, session.norms.trained.statistics)
        assert torch.allclose(weight[:2], torch.tensor(0.8))
        running_add(statistics, now_s)

    session.segmenter.backbone.infer, session.norms.running.add = recording, checked  # type: ignore[method-assign]
    for index in range(5):
        session.step(random_image(index))
    # a fed-back loop has another fixed point: iterating it on one frame moves away from the sequential pass
    image = session.segmenter.preprocessor.single(random_image(0)).clone()
    once = backend_infer("measured", {"image": image, **session.norms.anchor})["statistics"].clone()
    looped = once
    trained_alone = Mixing(torch.ones_like(once)).at(1.0)
    for _ in range(10):
        mixed = session.norms.trained.mixed_with(looped, torch.zeros(3, 1))
        under = {"image": image, "anchor_statistics": mixed, "anchor_weight": trained_alone}
        looped = backend_infer("measured", under)["statistics"].clone()
    assert not torch.allclose(once, looped, rtol=0.02)


def test_the_update_equals_paper_mode_under_the_same_norms(small_bundle: Bundle) -> None:
    """With prior 1 both modes see the trained statistics; then one update must be the same."""
    paper = open_session(small_bundle, SessionOptions(prior=1.0, lr=0.1, seed=3, opening=1.0))
    realtime = open_session(
        small_bundle,
        SessionOptions(prior=1.0, lr=0.1, seed=3, opening=1.0),
        replace(ANY, loss_stride=1, guarded=False),
    )
    for index in range(5):
        expected = paper.step(random_image(index))
        result = realtime.step(random_image(index))
        assert result.verdict.loss == pytest.approx(expected.verdict.loss, rel=1e-4)
    for name, weight in paper.weights.parameters.items():
        assert torch.allclose(realtime.weights.parameters[name], weight, atol=1e-4)


def features_of_view(session: Session, view: torch.Tensor) -> torch.Tensor:
    form, inputs = session.norms.inputs(True)
    return session.segmenter.backbone.infer(form, {"image": view, **inputs})["features_0"].clone()


def test_each_view_is_normalised_with_its_own_statistics(small_bundle: Bundle) -> None:
    """Paper mode pools the statistics of both views; here each goes through the backbone alone."""
    options = SessionOptions(lr=0.1, seed=3, backend="torch", opening=1.0)
    session = open_session(small_bundle, options, replace(ANY, loss_stride=1, guarded=False))
    reference = TrainableHead(load_head(small_bundle), session.setup.settings, seed=3)
    alone = open_session(small_bundle, SessionOptions("norm", backend="torch", opening=1.0))
    for index in range(5):
        image = random_image(index)
        views = alone.segmenter.preprocessor.pair(image).clone()
        features = torch.cat([features_of_view(alone, view[None]) for view in views])
        expected = reference.adapt([features], ocl, Stopwatch())
        assert session.step(image).verdict.loss == pytest.approx(expected.loss, rel=1e-5)
    for name, weight in reference.parameters.items():
        assert torch.allclose(session.weights.parameters[name], weight, atol=1e-5)


def test_strided_views_correspond_pixel_by_pixel() -> None:
    grid = PixelGrid(4)
    features = torch.randn(1, 6, 24, 32)
    ours = grid.sample([features])[0]
    flipped = grid.sample([features.flip(3)], flip=True)[0]
    assert torch.equal(ours, flipped.flip(3))


def test_a_head_with_a_neighbourhood_is_not_pointwise() -> None:
    for kernel, pointwise in ((1, True), (3, False)):
        head = TrainableHead(nn.Conv2d(6, 5, kernel, padding=kernel // 2), AdaptationDefaults())
        assert head.is_pointwise([(6, 12, 16)]) is pointwise


@pytest.mark.parametrize("update_s", [0.01, 0.05, 0.3])
def test_no_mask_is_delayed_by_an_update(small_bundle: Bundle, frames, update_s: float) -> None:  # type: ignore[no-untyped-def]
    """Masks take 40 ms of simulated time, frames come every 100 ms: none is late."""
    clock = SimulatedClock()
    session = session_of(small_bundle, clock, adapt_every=None, period_s=0.1)
    learn = session.updates.learner.learn

    def slow_update(lesson, trusted=False):  # type: ignore[no-untyped-def]
        clock.spend(update_s)
        return learn(lesson, trusted)

    session.updates.learner.learn = slow_update  # type: ignore[method-assign]
    session.warm_up()
    source = PacedSource(ImageSource(str(frames)), 10.0, clock)
    updates = 0
    for frame in source:
        session.predict(frame.image, frame.captured_at)
        clock.spend(0.04)
        assert clock.now() == pytest.approx(frame.captured_at + 0.04)
        updates += session.adapt().loss is not None
    assert source.dropped == 0
    assert updates == (6 if update_s <= 0.05 else 0)
    assert session.policy.skipped == (0 if update_s <= 0.05 else 6)


def test_the_newest_frame_wins_and_dropped_ones_are_counted(frames) -> None:  # type: ignore[no-untyped-def]
    clock = SimulatedClock()
    source = PacedSource(ImageSource(str(frames)), 10.0, clock)
    seen = []
    for frame in source:
        seen.append((frame.index, frame.captured_at))
        clock.spend(0.25)
    assert [index for index, _ in seen] == [0, 2, 5]
    assert [arrival for _, arrival in seen] == pytest.approx([0.0, 0.2, 0.5])
    assert source.dropped == 3


def test_warming_up_changes_nothing_that_was_learned(small_bundle: Bundle) -> None:
    session, cold = session_of(small_bundle), session_of(small_bundle)
    session.warm_up()
    for index in range(4):
        a, b = session.step(random_image(index)), cold.step(random_image(index))
        assert np.array_equal(a.mask, b.mask)
    assert session.weights.weights_sha256() == cold.weights.weights_sha256()


def test_warming_up_leaves_the_time_of_the_last_measurement(small_bundle: Bundle) -> None:
    clock = SimulatedClock()
    session = session_of(small_bundle, clock, norm_every=4)
    clock.time = 0.1
    session.step(random_image(0))
    infer = session.segmenter.backbone.infer

    def slow(form, inputs):  # type: ignore[no-untyped-def]
        clock.spend(0.7)
        return infer(form, inputs)

    session.segmenter.backbone.infer = slow  # type: ignore[method-assign]
    session.warm_up()
    assert clock.now() > 2
    assert session.norms.running.measured_at == 0.1


def test_an_exported_state_stays_as_it_was(small_bundle: Bundle) -> None:
    session = session_of(small_bundle, norm_every=2)
    session.norms.running.jump = math.inf
    session.predict(random_image(0), 0.0)
    tensors, _ = session.export_state()
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    for index in range(1, 5):
        session.predict(random_image(index), float(index))
        session.adapt()
    assert all(torch.equal(tensor, copies[name]) for name, tensor in tensors.items())
    assert not torch.equal(session.export_state()[0]["average"], copies["average"])


def test_blank_and_repeated_frames_are_not_learned_from(small_bundle: Bundle) -> None:
    session = session_of(small_bundle)
    session.step(random_image(0))
    vectors, weights = session.norms.vectors.clone(), session.weights.weights_sha256()
    for image, reason in (
        (np.zeros((40, 50, 3), np.uint8), "the frame is blank"),
        (np.full((40, 50, 3), 255, np.uint8), "the frame is blank"),
        (random_image(0), "the frame repeats the one before"),
    ):
        result = session.step(image)
        assert str(result.verdict) == reason
        assert not result.verdict.applied
    assert torch.equal(session.norms.vectors, vectors)
    assert session.weights.weights_sha256() == weights
    assert session.step(random_image(1)).verdict.applied


def test_statistics_that_are_far_off_are_refused(small_bundle: Bundle) -> None:
    session = session_of(small_bundle)
    session.step(random_image(0))
    limit = statistics_distance(session.norms.running.average, session.norms.trained.statistics)  # type: ignore[arg-type]
    strict = session_of(small_bundle, statistics_limit=limit / 2)
    result = strict.step(random_image(0))
    assert "away from the trained ones" in str(result.verdict)
    assert strict.norms.refused == 1
    assert strict.norms.running.average is None
    assert torch.equal(strict.norms.vectors, strict.norms.trained.vectors(strict.norms.trained.statistics))


def test_features_that_are_not_finite_renew_no_vectors(small_bundle: Bundle) -> None:
    session = session_of(small_bundle, norm_every=2)
    session.step(random_image(0))
    session.step(random_image(1))
    vectors, average = session.norms.vectors.clone(), session.norms.running.average
    assert average is not None
    average = average.clone()
    infer = session.segmenter.backbone.infer

    def broken(form, inputs):  # type: ignore[no-untyped-def]
        outputs = infer(form, inputs)
        return outputs | {"features_0": torch.full_like(outputs["features_0"], math.nan)}

    session.segmenter.backbone.infer = broken  # type: ignore[method-assign]
    assert str(session.step(random_image(2)).verdict) == "the backbone's output is not finite"
    assert torch.equal(session.norms.vectors, vectors)
    assert torch.equal(session.norms.running.average, average)  # type: ignore[arg-type]


def test_a_learning_rate_a_hundred_times_too_high_is_caught_by_the_guard_alone(small_bundle: Bundle) -> None:
    def disagreement(guarded: bool) -> tuple[float, Session]:
        options = SessionOptions(prior=0.8, lr=20.0, restoration=0.0, opening=1.0)
        session = open_session(small_bundle, options, replace(ANY, guarded=guarded), SimulatedClock())
        norm = open_session(
            small_bundle, SessionOptions("norm", prior=0.8, opening=1.0), ANY, SimulatedClock()
        )
        different = []
        for index in range(40):
            image = random_image(index)
            different.append((session.step(image).mask != norm.step(image).mask).mean())
        return float(np.mean(different[-10:])), session

    with_guard, session = disagreement(True)
    without_guard, _ = disagreement(False)
    assert session.updates.learner.guard.rollbacks + session.updates.learner.guard.resets >= 3
    assert with_guard < 0.05
    assert without_guard > 0.3


def test_running_average_follows_stream_time() -> None:
    running = RunningStatistics(tau_s=4.0)
    running.add(torch.ones(2, 3), 0.0)
    for step in range(1, 9):
        running.add(torch.full((2, 3), 1.1), 0.5 * step)
    assert running.average is not None
    assert torch.allclose(running.average, torch.full((2, 3), 1.1 - 0.1 * math.exp(-1.0)), atol=1e-5)


def test_the_average_begins_anew_where_statistics_jump() -> None:
    running = RunningStatistics(tau_s=100.0)
    before, near, far = torch.ones(2, 3), torch.full((2, 3), 1.1), torch.full((2, 3), 1.3)
    assert statistics_distance(near, before) < JUMP < statistics_distance(far, before)
    running.add(before, 0.0)
    running.add(near, 0.1)
    assert running.average is not None
    assert float((running.average - before).abs().max()) < 0.001
    running.add(far, 0.2)
    assert torch.equal(running.average, far)
    running.add(torch.full((2, 3), 1.25), 0.3)
    assert float((running.average - far).abs().max()) < 0.001


def test_frames_of_changing_size_keep_their_size(small_bundle: Bundle) -> None:
    session = session_of(small_bundle)
    for index, size in enumerate([(40, 50), (96, 64), (31, 77), (40, 50)]):
        result = session.step(random_image(index, *size))
        assert result.mask.shape == size
        assert result.verdict.applied


@pytest.mark.parametrize("method", ["norm", "ocl-head", "tent-head"])
def test_the_single_view_may_be_asked_for(small_bundle: Bundle, method: str) -> None:
    session = open_session(small_bundle, SessionOptions(method, "single", opening=1.0), ANY, SimulatedClock())
    assert session.setup.views == "single"
    assert session.step(random_image(0)).verdict.applied == (method != "norm")
    with pytest.raises(UsageError, match="leave out --views pair"):
        open_session(small_bundle, SessionOptions(method, "pair", opening=1.0), ANY)


def test_a_run_can_be_repeated_from_its_facts(small_bundle: Bundle) -> None:
    session = open_session(
        small_bundle,
        SessionOptions(prior=0.8, lr=0.1, restoration=0.3, seed=7, threads=1, opening=1.0),
        replace(ANY, norm_every=2, tau_s=3.0, limits=GuardLimits(strikes=5)),
        SimulatedClock(),
    )
    for index in range(3):
        session.step(random_image(index))
    facts = json.loads(json.dumps(session.facts()))
    assert (facts["seed"], facts["threads"], facts["precision"]) == (7, 1, None)
    settings = {name: facts["settings"][name] for name in ("lr", "restoration")}
    options = SessionOptions(
        facts["method"],
        facts["views"],
        facts["backend"],
        tuple(facts["settings"]["prior"]),
        **settings,
        opening=1.0,
    )
    realtime = facts["realtime"] | {"limits": GuardLimits(**facts["realtime"]["limits"])}
    assert RealtimeOptions(**realtime) == session.setup.realtime
    again = open_session(
        small_bundle,
        replace(options, **{name: facts[name] for name in ("seed", "head", "threads", "precision")}),
        RealtimeOptions(**realtime),
        SimulatedClock(),
    )
    for index in range(3):
        again.step(random_image(index))
    assert again.facts() == session.facts()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("norm_every", (0, -1, 1.5, math.nan)),
        ("adapt_every", (0, -4, 0.5)),
        ("loss_stride", (0, -1, 2.5)),
        ("period_s", (0, -0.1, math.nan)),
        ("tau_s", (0, -8.0, math.nan)),
        ("statistics_limit", (-0.1, math.nan)),
        ("update", ("beside", None)),
    ],
)
def test_options_out_of_range_are_refused_by_name(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(UsageError, match=f"{name} must be .*, got {value!r}"):
            RealtimeOptions(**{name: value})  # type: ignore[arg-type]
    RealtimeOptions(None, None, None, statistics_limit=math.inf)


def test_methods_that_train_the_backbone_are_refused(small_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="not ocl-full"):
        open_session(small_bundle, SessionOptions("ocl-full", opening=1.0), ANY)
    with pytest.raises(UsageError, match="not frozen"):
        open_session(small_bundle, SessionOptions("frozen"), ANY)
