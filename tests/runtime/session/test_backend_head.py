"""The head in the engine against the head in PyTorch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.errors import BackendError, BundleError, UsageError
from ocl_edge.method.head import Head, TrainableHead
from ocl_edge.method.methods import entropy, ocl
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.verdict import Reason
from ocl_edge.timings import Stopwatch
from ocl_edge_app.cli import run
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from ocl_edge_runtime.backends.torch_backend import TorchBackend
from ocl_edge_runtime.session.backend_head import BackendHead
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from tests.doubles.images import random_image

SETTINGS = AdaptationDefaults()


def both_heads(bundle: Bundle, seed: int = 0) -> tuple[TrainableHead, BackendHead]:
    in_torch = TrainableHead(load_head(bundle), SETTINGS, seed)
    return in_torch, BackendHead(bundle, OnnxRuntimeBackend(bundle, 1), SETTINGS, seed)


def pair_of(step: int, height: int = 24, width: int = 32) -> list[Tensor]:
    return [torch.randn(2, 6, height, width, generator=torch.Generator().manual_seed(step))]


def difference(ours: Head, theirs: Head) -> float:
    """Of weights and momentum."""
    pairs = [(ours.snapshot(), theirs.snapshot()), (ours.momentum(), theirs.momentum())]
    return max(float((a[name] - b[name]).abs().max()) for a, b in pairs for name in b)


def test_two_hundred_steps_agree_restoration_included(small_bundle: Bundle) -> None:
    in_torch, in_backend = both_heads(small_bundle)
    for step in range(200):
        pair = pair_of(step) if step % 3 else pair_of(step, 7, 9)  # any size: the head is pointwise
        expected = in_torch.adapt(pair, ocl, Stopwatch())
        update = in_backend.adapt(pair, ocl, Stopwatch())
        assert update.loss == pytest.approx(expected.loss, abs=5e-6), step
        assert difference(in_backend, in_torch) < 1e-5, step
    assert in_torch.distance_from_trained() > 0.1
    assert in_backend.distance_from_trained() == pytest.approx(in_torch.distance_from_trained(), rel=1e-4)
    view = [pair_of(0)[0][:1]]
    assert torch.allclose(in_backend.logits(view), in_torch.logits(view), atol=1e-4)
    frozen = in_backend.trained_logits(view)
    assert torch.allclose(frozen, in_torch.trained_logits(view), atol=1e-5)
    assert not torch.allclose(frozen, in_backend.logits(view), atol=1e-2)


def test_a_step_that_is_not_finite_was_never_there(small_bundle: Bundle) -> None:
    in_torch, in_backend = both_heads(small_bundle)
    broken = pair_of(1)
    broken[0][1, 2, 3, 4] = torch.inf
    for pair in (pair_of(0), broken, pair_of(2)):
        expected = in_torch.adapt(pair, ocl, Stopwatch())
        update = in_backend.adapt(pair, ocl, Stopwatch())
        assert update.reason is expected.reason
    assert expected.applied
    assert difference(in_backend, in_torch) < 1e-6
    assert torch.equal(in_backend.generator.get_state(), in_torch.generator.get_state())


def test_loading_forgets_the_momentum_and_reset_returns_to_the_source(small_bundle: Bundle) -> None:
    in_torch, in_backend = both_heads(small_bundle)
    for head in (in_torch, in_backend):
        head.adapt(pair_of(0), ocl, Stopwatch())
        once = head.snapshot()
        head.adapt(pair_of(1), ocl, Stopwatch())
        head.load(once)
        assert all(not m.any() for m in head.momentum().values())
        head.adapt(pair_of(2), ocl, Stopwatch())
    assert difference(in_backend, in_torch) < 1e-6
    in_backend.reset()
    assert in_backend.distance_from_trained() == 0
    assert in_backend.weights_sha256() == both_heads(small_bundle)[0].weights_sha256()


def test_snapshots_are_not_changed_by_later_steps(small_bundle: Bundle) -> None:
    _, head = both_heads(small_bundle)
    head.adapt(pair_of(0), ocl, Stopwatch())
    snapshot = head.snapshot()
    copies = {name: weight.clone() for name, weight in snapshot.items()}
    for step in range(3):
        head.adapt(pair_of(step), ocl, Stopwatch())
    assert all(torch.equal(snapshot[name], copies[name]) for name in copies)


def test_paper_mode_gives_the_same_masks_and_losses(small_bundle: Bundle) -> None:
    sessions = [
        open_session(small_bundle, SessionOptions(head=kind, backend="onnxruntime", opening=1.0))
        for kind in ("torch", "engine")
    ]
    for index in range(12):
        expected, result = (session.step(random_image(index)) for session in sessions)
        assert result.verdict.loss == pytest.approx(expected.verdict.loss, abs=1e-5)
        assert (result.mask != expected.mask).mean() < 0.002
        assert result.verdict.applied
    assert [session.facts()["head"] for session in sessions] == ["torch", "engine"]
    assert list(result.timings_ms) == ["preprocess", "backbone", "head", "tail", "step"]


def realtime(bundle: Bundle, head: str, **options: float) -> Session:
    chosen = SessionOptions(head=head, backend="onnxruntime", prior=0.8, **options, opening=1.0)  # type: ignore[arg-type]
    return open_session(bundle, chosen, RealtimeOptions(adapt_every=1, statistics_limit=1e9))


@pytest.mark.parametrize("lr", [0.01, 100.0], ids=["healthy", "guard at work"])
def test_realtime_mode_takes_the_same_decisions(small_bundle: Bundle, lr: float) -> None:
    sessions = [realtime(small_bundle, kind, lr=lr) for kind in ("torch", "engine")]
    assert all(session.segmenter.head.is_pointwise(small_bundle.manifest.features) for session in sessions)
    reasons = set()
    for index in range(12):
        expected, result = (session.step(random_image(index)) for session in sessions)
        assert (result.mask != expected.mask).mean() < 0.002
        assert result.verdict.reason is expected.verdict.reason
        reasons |= {result.verdict.reason}
    undone = {Reason.RESET, Reason.STOPPED, Reason.FROZEN_BY_GUARD}
    assert reasons == ({Reason.ADAPTED} if lr < 1 else undone)


@pytest.mark.parametrize(
    "order", [("torch", "engine"), ("engine", "torch")], ids=lambda kinds: "to ".join(kinds)
)
def test_a_state_of_one_kind_goes_on_with_the_other(small_bundle: Bundle, order: tuple[str, str]) -> None:
    first, second = (realtime(small_bundle, kind, lr=0.1) for kind in order)
    for index in range(5):
        first.step(random_image(index))
    second.import_state(*first.export_state())
    assert second.weights.weights_sha256() == first.weights.weights_sha256()
    for index in range(5, 10):
        expected, result = first.step(random_image(index)), second.step(random_image(index))
        assert result.verdict.loss == pytest.approx(expected.verdict.loss, abs=1e-5)
    assert difference(second.weights, first.weights) < 1e-5


def test_the_head_graphs_are_in_the_manifest_and_checked(small_bundle: Bundle) -> None:
    graphs = small_bundle.manifest.head_graphs
    assert graphs is not None
    assert graphs.parameters == {"weight": "classifier.weight", "bias": "classifier.bias"}
    assert graphs.graphs["head"].inputs[0].shape == (-1, 6, -1, -1)
    assert {"head.onnx", "head_step.onnx"} <= small_bundle.manifest.files.keys()
    report = small_bundle.manifest.parity["head"]
    assert report["steps"] == 10
    assert report["weights_over_movement"] < 1e-4


def test_what_cannot_run_in_the_engine_is_refused_with_the_way_out(small_bundle: Bundle) -> None:
    without = {"head_graphs": None, "no_head_graphs": "a head of two layers"}
    bundle = replace(small_bundle, manifest=small_bundle.manifest.model_copy(update=without))
    with pytest.raises(
        BundleError, match=r"no head graphs \(a head of two layers\); --head torch needs none"
    ):
        open_session(bundle, SessionOptions(head="engine", opening=1.0))
    with pytest.raises(
        BackendError, match=r"torch backend here cannot run head and head_step: --head torch, or"
    ):
        BackendHead(small_bundle, TorchBackend(small_bundle), SETTINGS)
    for method in ("tent-head", "ocl-full"):
        with pytest.raises(UsageError, match=rf"{method}.*--head torch"):
            open_session(small_bundle, SessionOptions(method, head="engine", opening=1.0))
    with pytest.raises(UsageError, match="OCL as its loss"):
        both_heads(small_bundle)[1].adapt(pair_of(0), entropy, Stopwatch())


@pytest.mark.parametrize("mode", ["paper", "realtime"])
def test_the_command_line_runs_it(
    small_bundle: Bundle, frames: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = {}
    for head in ("torch", "engine"):
        command = ["run", str(small_bundle.path), "--source", str(frames), "--mode", mode, "--head", head]
        command += ["--journal", str(tmp_path / f"{head}.jsonl"), "--backend", "onnxruntime"]
        command += ["--adapt-every", "1"] if mode == "realtime" else []
        assert run([*command, "--json", "-"]) == 0
        reports[head] = json.loads(capsys.readouterr().out)
    assert reports["engine"]["head"] == "engine"
    assert reports["engine"]["losses"] == pytest.approx(reports["torch"]["losses"], abs=1e-5)
    journals = [(tmp_path / f"{head}.jsonl").read_text("utf-8").splitlines() for head in reports]
    told = [[json.loads(line)["reason"] for line in lines] for lines in journals]
    assert told[0] == told[1]
    assert len(told[0]) == 6
