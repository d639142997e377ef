"""Several outputs of one network: each learns as if it were exported alone, and the backbone runs once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FrameError, StateError, UsageError
from ocl_edge.method.verdict import Reason
from ocl_edge.network.form_names import FormName
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.backends import usable_backends
from ocl_edge_runtime.records.state import StateStore
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.opening_outputs import open_outputs
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.outputs import Outputs
from tests.doubles import two_tasks
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.two_tasks import HEIGHT, NETWORKS, WIDTH, export_tasks

LEARNS = RealtimeOptions(norm_every=3, adapt_every=1, statistics_limit=1e9)
ALONE = {
    "twin": {"area": "0", "lanes": "1"},
    "detecting": {"area": "1", "lanes": "2"},
    "one_feature": {"area": "area", "lanes": "lanes"},
}
FRAMES = 8
HERE = [name for name, reason in usable_backends().items() if reason is None]


def options(backend: str = "onnxruntime", method: str = "ocl-head", **more: object) -> SessionOptions:
    chosen = {"lr": 0.05, "seed": 4, "opening": 1.0, **more}
    return SessionOptions(method, threads=1, backend=backend, **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Bundle]]:
    """Of each network a bundle with both outputs."""
    return {name: export_tasks(tmp_path_factory.mktemp(name), name) for name in NETWORKS}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Bundle]]:
    """Of each network a bundle for each output by itself."""
    made = {}
    for name, outputs in ALONE.items():
        made[name] = {
            task: export_tasks(tmp_path_factory.mktemp(f"{name}-{task}"), name, output)[""]
            for task, output in outputs.items()
        }
    return made


def frame(index: int) -> np.ndarray:
    return random_image(index, HEIGHT, WIDTH)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("name", NETWORKS)
def test_masks_are_those_of_the_whole_network(
    tasks: dict[str, dict[str, Bundle]], name: str, backend: str
) -> None:
    with open_outputs(tasks[name], options(backend, "frozen")) as outputs, torch.no_grad():
        network = two_tasks.trained(name)
        for index in range(3):
            masks = outputs.predict(frame(index))
            views = outputs.lead.segmenter.preprocessor.single(frame(index))
            returned = network(views)
            logits = list(returned.values()) if isinstance(returned, dict) else list(returned)[-2:]
            for mask, expected in zip(masks.values(), logits, strict=True):
                classes = expected.argmax(1) if expected.shape[1] > 1 else (expected[:, 0] >= 0.5).long()
                assert (mask != classes[0].numpy()).mean() <= 1e-3
                assert len(np.unique(mask)) > 1


@pytest.mark.parametrize("mode", ["realtime", "paper"])
@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("name", NETWORKS)
def test_each_output_adapts_as_if_it_were_exported_alone(
    tasks: dict[str, dict[str, Bundle]],
    alone: dict[str, dict[str, Bundle]],
    name: str,
    backend: str,
    mode: str,
) -> None:
    rules = LEARNS if mode == "realtime" else None
    with open_outputs(tasks[name], options(backend), rules, SimulatedClock()) as outputs:
        together = [outputs.step(frame(i), float(i)) for i in range(FRAMES)]
        for task in ("area", "lanes"):
            with open_session(alone[name][task], options(backend), rules, SimulatedClock()) as single:
                for index, results in enumerate(together):
                    expected = single.step(frame(index), float(index))
                    assert (results[task].mask != expected.mask).mean() <= 1e-3, (task, index)
                    assert results[task].verdict.reason is expected.verdict.reason
                assert expected.verdict.applied
                learned = outputs[task].weights.parameters
                for parameter, value in single.weights.parameters.items():
                    moved = (value - single.weights.trained[parameter]).abs().max()
                    difference = (learned[parameter] - value).abs().max()
                    assert moved > 0
                    assert difference <= 0.02 * moved, (task, parameter)


class Counted:
    """Counts what a backend runs."""

    def __init__(self, outputs: Outputs) -> None:
        self.ran: list[tuple[FormName, int]] = []
        backend = outputs.lead.segmenter.backbone
        self._infer = backend.infer
        backend.infer = self.infer  # type: ignore[method-assign]

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.ran.append((form, len(inputs["image"])))
        return self._infer(form, inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_backbone_runs_once_for_the_masks_and_once_for_the_updates(
    tasks: dict[str, dict[str, Bundle]], name: str
) -> None:
    with open_outputs(tasks[name], options(), replace(LEARNS, norm_every=1), SimulatedClock()) as outputs:
        counted = Counted(outputs)
        for index in range(3):
            results = outputs.step(frame(index), float(index))
            assert all(result.verdict.applied for result in results.values())
        assert counted.ran == [("measured", 1)] * 6
    with open_outputs(tasks[name], options()) as outputs:
        counted = Counted(outputs)
        outputs.step(frame(0))
        assert counted.ran == [("measured", 2)]
    with open_outputs(tasks[name], options(method="frozen")) as outputs:
        counted = Counted(outputs)
        outputs.step(frame(0))
        assert counted.ran == [("plain", 1)]


def test_one_guard_stops_its_own_head_and_no_other(tasks: dict[str, dict[str, Bundle]]) -> None:
    with open_outputs(tasks["twin"], options(), LEARNS, SimulatedClock()) as outputs:
        outputs["area"].updates.learner.guard.may_update = lambda: False  # type: ignore[attr-defined]
        results = outputs.step(frame(0), 0.0)
        assert results["area"].verdict.reason is Reason.FROZEN_BY_GUARD
        assert results["lanes"].verdict.applied
        assert outputs["area"].weights.distance_from_trained() == 0


def test_pausing_one_output_leaves_the_other_learning(tasks: dict[str, dict[str, Bundle]]) -> None:
    with open_outputs(tasks["twin"], options(), LEARNS, SimulatedClock()) as outputs:
        outputs["area"].paused = True
        results = outputs.step(frame(0), 0.0)
        assert results["area"].verdict.reason is Reason.PAUSED
        assert results["lanes"].verdict.applied


def test_time_decides_for_all_outputs_together(tasks: dict[str, dict[str, Bundle]]) -> None:
    clock = SimulatedClock()
    with open_outputs(tasks["twin"], options(), replace(LEARNS, period_s=0.1), clock) as outputs:
        outputs.warm_up()
        outputs.lead.policy.took(60.0)
        results = outputs.step(frame(0), clock.now())
        assert {result.verdict.reason for result in results.values()} == {Reason.NO_TIME}
        assert outputs.lead.policy.skipped == 1


def test_a_frame_that_cannot_be_used_changes_nothing(tasks: dict[str, dict[str, Bundle]]) -> None:
    with open_outputs(tasks["twin"], options(), LEARNS, SimulatedClock()) as outputs:
        outputs.step(frame(0), 0.0)
        with pytest.raises(FrameError):
            outputs.predict(frame(1).astype(np.float32))  # type: ignore[arg-type]
        assert {verdict.reason for verdict in outputs.adapt().values()} == {Reason.NO_FRAME}
        assert all(result.verdict.applied for result in outputs.step(frame(1), 1.0).values())


def test_warming_up_changes_nothing_that_was_learned(tasks: dict[str, dict[str, Bundle]]) -> None:
    rules = replace(LEARNS, norm_every=1)
    with (
        open_outputs(tasks["one_feature"], options(), rules, SimulatedClock()) as warm,
        open_outputs(tasks["one_feature"], options(), rules, SimulatedClock()) as cold,
    ):
        warm.warm_up()
        for index in range(3):
            ours, theirs = warm.step(frame(index), float(index)), cold.step(frame(index), float(index))
            for task in warm:
                assert np.array_equal(ours[task].mask, theirs[task].mask)
                assert warm[task].weights.weights_sha256() == cold[task].weights.weights_sha256()


def test_states_are_saved_and_resumed_output_by_output(
    tasks: dict[str, dict[str, Bundle]], tmp_path: Path
) -> None:
    opened = options(opening="auto"), LEARNS
    with open_outputs(tasks["twin"], *opened, SimulatedClock()) as outputs:
        for index in range(4):
            outputs.step(frame(index), float(index))
        for name, session in outputs.items():
            StateStore(tmp_path / name, session).save()
        expected = [outputs.step(frame(index), float(index)) for index in range(4, 8)]
        learned = {name: session.weights.weights_sha256() for name, session in outputs.items()}
    clock = SimulatedClock()
    with open_outputs(tasks["twin"], *opened, clock) as outputs:
        for name, session in outputs.items():
            assert StateStore(tmp_path / name, session).resume("refuse") == "resumed after frame 3"
        for index, results in enumerate(expected, 4):
            for name, result in outputs.step(frame(index), float(index)).items():
                assert np.array_equal(result.mask, results[name].mask)
        assert {name: s.weights.weights_sha256() for name, s in outputs.items()} == learned


def test_a_state_belongs_to_its_output(tasks: dict[str, dict[str, Bundle]], tmp_path: Path) -> None:
    with open_outputs(tasks["twin"], options(), LEARNS, SimulatedClock()) as outputs:
        outputs.step(frame(0), 0.0)
        StateStore(tmp_path, outputs["area"]).save()
        with pytest.raises(StateError, match=r"of bundle .*#area, this run has .*#lanes"):
            StateStore(tmp_path, outputs["lanes"]).resume("refuse")


@pytest.mark.parametrize(
    ("chosen", "rules", "message"),
    [
        (options(method="ocl-full"), None, "--method ocl-full trains the backbone, .*#area or .*#lanes"),
        (
            options(method="cotta"),
            None,
            "--method cotta trains the backbone, .* one loss: .*#area",
        ),
    ],
)
def test_what_one_output_can_have_alone_is_refused(
    tasks: dict[str, dict[str, Bundle]],
    chosen: SessionOptions,
    rules: RealtimeOptions | None,
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        open_outputs(tasks["twin"], replace(chosen, backend="auto"), rules)


@pytest.mark.parametrize("method", ["ocl-head", "ocl-full", "cotta", "frozen"])
def test_one_output_of_several_runs_by_itself_like_any_bundle(
    tasks: dict[str, dict[str, Bundle]], alone: dict[str, dict[str, Bundle]], method: str
) -> None:
    chosen = options("torch", method, lr=1e-3)
    ours = Bundle.open(f"{tasks['detecting']['lanes'].path}#lanes")
    with open_session(ours, chosen) as one, open_session(alone["detecting"]["lanes"], chosen) as single:
        for index in range(3):
            assert (one.step(frame(index)).mask != single.step(frame(index)).mask).mean() <= 1e-3
