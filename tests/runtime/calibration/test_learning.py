"""Weights that are learned: what the gradient makes of them, and where none goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.calibration import learning
from ocl_edge_runtime.calibration.copies import corrupted
from ocl_edge_runtime.calibration.corruptions import CORRUPTIONS, Pixels
from ocl_edge_runtime.calibration.frames import FEWEST_FRAMES as FEWEST
from ocl_edge_runtime.calibration.frames import GivenFrames, find_frames
from ocl_edge_runtime.calibration.learning import LEARN, WeightsLearner
from ocl_edge_runtime.calibration.measuring import UNKNOWN, HeadAsTrained, Measurer
from tests.doubles.home_frames import home_frame, write_frames

OF = "ocl_edge_runtime.calibration.{}.CORRUPTIONS"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> GivenFrames:
    directory = tmp_path_factory.mktemp("home") / "frames"
    return find_frames(write_frames(directory, [home_frame(seed) for seed in range(FEWEST)]))


@pytest.fixture
def measurer(small_bundle: Bundle) -> Iterator[Measurer]:
    with open_backend(small_bundle, "onnxruntime", 1).backend as backend:
        yield Measurer(small_bundle, backend)


@pytest.fixture
def contrast_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("copies", "learning"):
        monkeypatch.setattr(OF.format(module), {"contrast": CORRUPTIONS["contrast"]})


def truths_of(measurer: Measurer, frames: GivenFrames, indices: range) -> dict[int, torch.Tensor]:
    """The network's own classes of all pixels, clean."""
    head, line = HeadAsTrained(measurer.bundle), line_of(measurer)
    return {i: head.mask(measurer.measure(frames.read(i), line, 0.0).features) for i in indices}


def line_of(measurer: Measurer) -> Mixing:
    return Mixing(Mixing.of_prior(measurer.channels, DEFAULT_PRIOR).weights, between=True)


def cross_entropy(measurer: Measurer, frames: GivenFrames, mixing: Mixing) -> float:
    """Of copies with the clean frames' classes, by the backend."""
    head, found = HeadAsTrained(measurer.bundle), []
    for index, truth in truths_of(measurer, frames, range(FEWEST)).items():
        copy = corrupted(frames.read(index), "contrast", (LEARN, index))
        logits = head.logits(measurer.measure(copy, mixing, 1.0).features)
        found.append(torch.nn.functional.cross_entropy(logits, truth[None]))
    return float(torch.stack(found).mean())


@pytest.mark.usefixtures("contrast_alone")
def test_learned_weights_agree_better_with_the_clean_frames_than_those_they_began_with(
    measurer: Measurer, frames: GivenFrames
) -> None:
    head, start = {"": HeadAsTrained(measurer.bundle)}, line_of(measurer)
    truths = {"": truths_of(measurer, frames, range(FEWEST))}
    learned = WeightsLearner(measurer, head, frames, truths).learn(start, lambda _: None)
    assert cross_entropy(measurer, frames, learned) < 0.9 * cross_entropy(measurer, frames, start)
    assert 0 <= learned.weights.min() <= learned.weights.max() <= 1
    assert learned.between


def test_the_same_steps_learn_the_same(
    measurer: Measurer, frames: GivenFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "STEPS", 6)
    head, truths = HeadAsTrained(measurer.bundle), {"": truths_of(measurer, frames, range(FEWEST))}
    first, second = (
        WeightsLearner(measurer, {"": head}, frames, truths).learn(line_of(measurer), lambda _: None)
        for _ in range(2)
    )
    assert torch.equal(first.weights, second.weights)


def test_pixels_that_the_truth_does_not_know_teach_nothing(
    measurer: Measurer, frames: GivenFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "STEPS", 6)
    head = {"": HeadAsTrained(measurer.bundle)}
    truths = {
        "": {i: torch.full_like(t, UNKNOWN) for i, t in truths_of(measurer, frames, range(FEWEST)).items()}
    }
    learned = WeightsLearner(measurer, head, frames, truths).learn(line_of(measurer), lambda _: None)
    assert torch.allclose(learned.weights, line_of(measurer).weights, atol=1e-6)


def test_a_gradient_that_would_take_too_much_memory_is_said_before_it_is_tried(
    measurer: Measurer, frames: GivenFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "MOST_BYTES", 1000)
    with pytest.raises(BundleError, match=r"holds some 0\.0 GB"):
        WeightsLearner(measurer, {}, frames, {"": {}})


def test_a_gradient_that_is_not_finite_moves_nothing(
    measurer: Measurer, frames: GivenFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "STEPS", 4)
    head = {"": HeadAsTrained(measurer.bundle)}
    monkeypatch.setattr(HeadAsTrained, "logits_with_gradients", ruled_out)
    truths = {"": truths_of(measurer, frames, range(FEWEST))}
    learned = WeightsLearner(measurer, head, frames, truths).learn(line_of(measurer), lambda _: None)
    assert torch.equal(learned.weights, line_of(measurer).weights)


def test_an_operator_without_a_gradient_is_said(
    measurer: Measurer, frames: GivenFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gradient(_: HeadAsTrained, features: list[torch.Tensor]) -> torch.Tensor:
        raise RuntimeError("derivative for x is not implemented")

    monkeypatch.setattr(HeadAsTrained, "logits_with_gradients", no_gradient)
    truths = {"": dict.fromkeys(range(FEWEST), torch.zeros(1))}
    learner = WeightsLearner(measurer, {"": HeadAsTrained(measurer.bundle)}, frames, truths)
    with pytest.raises(BundleError, match="no gradient goes through this network: derivative for x"):
        learner.learn(line_of(measurer), lambda _: None)


def ruled_out(_: HeadAsTrained, features: list[torch.Tensor]) -> torch.Tensor:
    """Logits of a network that says NaN."""
    return torch.cat([features[0][:, :1] * torch.nan] * 19, 1)


def test_a_frame_is_seen_under_many_corruptions(
    measurer: Measurer, frames: GivenFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four frames and eight corruptions, each in turn, would pair a frame with two of them for ever."""
    seen: dict[bytes, set[str]] = {}

    def noted(frame: Pixels, name: str, seed: Sequence[int]) -> Pixels:
        seen.setdefault(frame.tobytes(), set()).add(name)
        return corrupted(frame, name, seed)

    monkeypatch.setattr(learning, "STEPS", 8 * len(CORRUPTIONS))
    monkeypatch.setattr(learning, "corrupted", noted)
    head, truths = HeadAsTrained(measurer.bundle), truths_of(measurer, frames, range(4))
    WeightsLearner(measurer, {"": head}, frames, {"": truths}).learn(line_of(measurer), lambda _: None)
    assert len(seen) == 4
    assert min(len(names) for names in seen.values()) > len(CORRUPTIONS) / 2


def test_the_mirrored_copy_has_the_mirrored_truth(
    measurer: Measurer, frames: GivenFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    monkeypatch.setattr(learning, "STEPS", 2 * len(CORRUPTIONS))
    monkeypatch.setattr(learning, "_cross_entropy", lambda logits, truth: told(seen, logits, truth))
    truths = truths_of(measurer, frames, range(1))
    head = {"": HeadAsTrained(measurer.bundle)}
    WeightsLearner(measurer, head, frames, {"": truths}).learn(line_of(measurer), lambda _: None)
    straight, mirrored = seen[0][1][0], seen[len(CORRUPTIONS)][1][0]
    assert torch.equal(straight, truths[0])
    assert torch.equal(mirrored, truths[0].flip(1))
    assert not torch.equal(straight, mirrored)


def told(
    seen: list[tuple[torch.Tensor, torch.Tensor]], logits: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    seen.append((logits.detach(), truth))
    return logits.sum() * 0
