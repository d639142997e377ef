"""Sessions whose opening follows: frozen at home, adapting away, and back within ten frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import StateError, UsageError
from ocl_edge.method.verdict import Reason
from ocl_edge_app.evaluation.corruption import Corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_app.evaluation.protocol import evaluate_stream
from ocl_edge_runtime.records.tape import Tape, TapeWriter
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.setup import notes_on
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY
from tests.doubles.workers import HandExecutor

OPTIONS = SessionOptions(backend="onnxruntime", prior=0.5, lr=0.05, restoration=0.0, threads=1)


def play(session: Session, first: int, last: int, fps: float = 1.0) -> list[NDArray[np.uint8]]:
    return [session.step(random_image(index), index / fps).mask for index in range(first, last)]


def realtime(bundle: Bundle, options: SessionOptions = OPTIONS, **changes: object) -> Session:
    return open_session(bundle, options, replace(ANY, **changes), SimulatedClock())  # type: ignore[arg-type]


def never_open(bundle: Bundle) -> Session:
    return open_session(bundle, replace(OPTIONS, opening=0.0), ANY, SimulatedClock())


def test_at_home_masks_are_the_frozen_networks_and_nothing_is_learned(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    home_is["distance"] = 1.1
    session, frozen = realtime(small_bundle), open_session(small_bundle, replace(OPTIONS, method="frozen"))
    for index in range(6):
        result = session.step(random_image(index), float(index))
        assert np.array_equal(result.mask, frozen.step(random_image(index)).mask)
        assert (result.opening, result.distance) == (0.0, 1.1)
        assert result.verdict.reason is Reason.AT_HOME
    assert session.weights.distance_from_trained() == 0


@pytest.mark.parametrize("fps", [1.0, 30.0])
@pytest.mark.parametrize("norm_every", [1, 3])
def test_back_home_masks_and_weights_are_the_trained_ones_within_ten_frames(
    small_bundle: Bundle, home_is: dict[str, float], fps: float, norm_every: int
) -> None:
    session, trained = realtime(small_bundle, norm_every=norm_every), never_open(small_bundle)
    home_is["distance"] = 3.0
    away, as_trained = play(session, 0, 12, fps), play(trained, 0, 12, fps)
    assert session.weights.distance_from_trained() > 0.001
    assert any(not np.array_equal(a, b) for a, b in zip(away, as_trained, strict=True))
    home_is["distance"] = 0.5
    back = play(session, 12, 30, fps)
    frames_to_close = 9 if norm_every == 1 else 11
    at_home = list(zip(back, play(trained, 12, 30, fps), strict=True))[frames_to_close:]
    assert all(np.array_equal(ours, theirs) for ours, theirs in at_home)
    assert session.weights.distance_from_trained() == 0


def test_paper_mode_opens_and_closes_as_well(small_bundle: Bundle, home_is: dict[str, float]) -> None:
    session = open_session(small_bundle, OPTIONS)
    pair = open_session(small_bundle, replace(OPTIONS, opening=0.0))
    always = open_session(small_bundle, replace(OPTIONS, opening=1.0))
    home_is["distance"] = 3.0
    first = session.step(random_image(0))
    assert (first.again, first.opening) == (True, 1.0)
    assert np.array_equal(first.mask, always.step(random_image(0)).mask)
    play(session, 1, 5)
    assert session.weights.distance_from_trained() > 0
    home_is["distance"] = 0.0
    play(session, 5, 14)
    assert np.array_equal(session.step(random_image(14)).mask, pair.step(random_image(14)).mask)
    assert session.weights.distance_from_trained() == 0


def test_half_open_is_half_the_mixing_and_half_the_rate(small_bundle: Bundle) -> None:
    half = realtime(small_bundle, replace(OPTIONS, opening=0.5))
    # prior 0.5, half open: the trained statistics weigh 0.75
    same = realtime(small_bundle, replace(OPTIONS, opening=1.0, prior=0.75, lr=0.025))
    for ours, theirs in zip(play(half, 0, 4), play(same, 0, 4), strict=True):
        assert np.array_equal(ours, theirs)
    for name, weight in half.weights.parameters.items():
        assert torch.allclose(weight, same.weights.parameters[name], atol=1e-6)


def test_a_background_update_that_lands_at_home_is_not_learned(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    hand = HandExecutor()
    session = open_session(small_bundle, OPTIONS, replace(ANY, update="background"), SimulatedClock(), hand)
    home_is["distance"] = 3.0
    play(session, 0, 2)
    assert session.updates.busy
    home_is["distance"] = 0.0
    play(session, 2, 14)
    hand.land_all()
    assert session.updates.learner.weights.distance_from_trained() > 0
    session.predict(random_image(14), 14.0)  # takes the update in
    assert session.weights.distance_from_trained() == 0
    assert session.updates.learner.weights.distance_from_trained() == 0


def test_repeated_frames_end_like_single_ones(
    small_bundle: Bundle, home_is: dict[str, float], tmp_path: Path
) -> None:
    home_is["distance"] = 3.0
    drifts = {}
    for opening in ("auto", 1.0):
        for repeat in (1, 8):
            options = replace(OPTIONS, lr=0.005, opening=opening, frame_s=1 / repeat)
            session = open_session(small_bundle, options)
            evaluate_stream(session, labelled(tmp_path), space(), Corruption(), repeat=repeat)
            drifts[opening, repeat] = session.weights.distance_from_trained()
    assert drifts["auto", 8] == pytest.approx(drifts["auto", 1], rel=0.35)
    assert drifts[1.0, 8] > 3 * drifts[1.0, 1]


def labelled(directory: Path) -> LabelledFrames:
    from PIL import Image

    for name in ("images", "labels"):
        (directory / name).mkdir(exist_ok=True)
    for index in range(8):
        Image.fromarray(random_image(index)).save(directory / "images" / f"{index}.png")
        Image.fromarray(np.zeros((40, 50), np.uint8)).save(directory / "labels" / f"{index}.png")
    return LabelledFrames.find(str(directory / "images"), directory / "labels")


def space() -> LabelSpace:
    return LabelSpace(tuple("abcde"), 255, None)


def test_a_resumed_session_goes_on_bit_for_bit(small_bundle: Bundle, home_is: dict[str, float]) -> None:
    distances = [3.0, 3.0, 1.3, 1.2, 1.4, 0.5, 1.6, 3.0, 3.0, 1.4]
    one, other = realtime(small_bundle), realtime(small_bundle)

    def go(session: Session, first: int, last: int) -> None:
        for index in range(first, last):
            home_is["distance"] = distances[index]
            session.step(random_image(index), 0.5 * index)

    go(one, 0, 5)
    other.import_state(*one.export_state())
    other.learned.moments = one.learned.moments
    go(one, 5, 10)
    go(other, 5, 10)
    assert other.weights.weights_sha256() == one.weights.weights_sha256()
    assert one.export_state()[0]["opening"].tolist() == other.export_state()[0]["opening"].tolist()


def test_a_state_without_opening_goes_on_closed(small_bundle: Bundle, home_is: dict[str, float]) -> None:
    home_is["distance"] = 3.0
    session = realtime(small_bundle)
    play(session, 0, 4)
    tensors, facts = session.export_state()
    older = {name: tensor for name, tensor in tensors.items() if name != "opening"}
    other = realtime(small_bundle)
    later = {"learned_at", "followed_at", "frames_since", "opens_by_lead", "looked_across_at"}
    assert later < facts.keys()
    other.import_state(older, {name: fact for name, fact in facts.items() if name not in later})
    assert other.norms.openness is not None
    assert other.norms.openness.value == 0
    other.step(random_image(4), 4.0)


def test_a_tape_that_knows_no_opening_ran_wide_open(small_bundle: Bundle, tmp_path: Path) -> None:
    session = realtime(small_bundle, replace(OPTIONS, opening=1.0))
    path = tmp_path / "tape.jsonl"
    with TapeWriter(path, session) as writer:
        for index in range(3):
            image = random_image(index)
            writer.frame(Frame(image, index, str(index), 0.0), session.step(image, float(index)))
        writer.finish()
    older = path.read_text("utf-8").replace('"opening": 1.0, ', "")
    assert older != path.read_text("utf-8")
    path.write_text(older)
    tape = Tape.read(path)
    assert tape.opening == 1.0
    again = realtime(small_bundle, replace(OPTIONS, opening=tape.opening))
    replay = tape.play_in(again)
    for index in range(3):
        again.step(random_image(index))
    assert "bit for bit" in replay.check_end()


def test_a_tape_of_an_opening_replays_bit_for_bit(
    small_bundle: Bundle, home_is: dict[str, float], tmp_path: Path
) -> None:
    path, distances = tmp_path / "tape.jsonl", [3.0, 3.0, 1.3, 1.2, 3.0]
    session = realtime(small_bundle)
    with TapeWriter(path, session) as writer:
        for index, home_is["distance"] in enumerate(distances):
            image = random_image(index)
            writer.frame(Frame(image, index, str(index), 0.0), session.step(image, 0.1 * index))
        writer.finish()
    tape, again = Tape.read(path), realtime(small_bundle)
    replay = tape.play_in(again)
    for index, home_is["distance"] in enumerate(distances):
        again.step(random_image(index))
    assert "bit for bit" in replay.check_end()


def test_statistics_are_measured_again_where_the_session_has_opened(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    """What was measured unmixed, with no time for a second look, must not be mixed in for the next seven."""
    home_is["distance"] = 3.0
    session = realtime(small_bundle, norm_every=8, period_s=1.0)
    alike = [random_image(0) // 2 + index for index in range(9)]
    measured = [session.step(image, float(i)).decided.measured for i, image in enumerate(alike)]  # type: ignore[union-attr]
    assert measured == [True, True, False, False, False, False, False, False, True]


def test_vectors_are_never_farther_open_than_the_pass_that_measured(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    home_is["distance"] = 3.0
    session = realtime(small_bundle, period_s=1.0)  # no time to look at a frame again before one was timed
    session.predict(random_image(0), 0.0)
    assert torch.equal(session.norms.vectors, session.norms.trained.vectors(session.norms.trained.statistics))  # type: ignore[attr-defined]


def test_notes_say_what_a_bundle_cannot_tell(small_bundle: Bundle) -> None:
    manifest = small_bundle.manifest
    older = replace(
        small_bundle,
        manifest=manifest.model_copy(
            update={"norms": tuple(n.model_copy(update={"sensing": None}) for n in manifest.norms)}
        ),
    )
    none = replace(small_bundle, manifest=manifest.model_copy(update={"norms": ()}))
    assert "does not know home" in notes_on(small_bundle, OPTIONS)[0]
    assert "export it again" in notes_on(older, OPTIONS)[0]
    assert "--opening 1 adapts" in notes_on(none, OPTIONS)[0]
    assert notes_on(older, replace(OPTIONS, opening=1.0)) == []


@pytest.mark.parametrize("opening", [-0.1, 1.1, float("nan"), "wide"])
def test_an_opening_out_of_range_is_refused(opening: float) -> None:
    with pytest.raises(UsageError, match="opening"):
        SessionOptions(opening=opening)


def test_where_the_opening_follows_the_limit_is_that_of_the_network(
    small_bundle: Bundle, home_is: dict[str, float]
) -> None:
    """Half the noise, half the limit; with a fixed opening it stays what was set."""
    home_is["distance"] = 3.0
    noise = small_bundle.manifest.noise_distance
    assert noise is not None
    assert all(0 < distance < 10 for distance in noise)
    verdicts = {}
    for factor in (1e-3, 1e3):
        scaled = small_bundle.manifest.model_copy(update={"noise_distance": (factor, factor)})
        bundle = replace(small_bundle, manifest=scaled)
        session = realtime(bundle, statistics_limit=1.0)
        session.step(random_image(0), 0.0)
        verdicts[factor] = session.step(random_image(1), 1.0).verdict.reason
        fixed = realtime(bundle, replace(OPTIONS, opening=1.0), statistics_limit=1e9)
        assert fixed.step(random_image(1), 1.0).verdict.applied
    assert verdicts == {1e-3: Reason.STATISTICS_TOO_FAR, 1e3: Reason.ADAPTED}


@pytest.mark.parametrize(
    "opening",
    [
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        torch.tensor([0.5, 0.5, 0.5]),
        torch.tensor([0.5, 1.5, 0.5], dtype=torch.float64),
        torch.tensor([0.5, torch.nan, 0.5], dtype=torch.float64),
    ],
)
def test_an_opening_that_cannot_be_is_no_state(
    small_bundle: Bundle, home_is: dict[str, float], opening: torch.Tensor
) -> None:
    home_is["distance"] = 3.0
    session = realtime(small_bundle)
    play(session, 0, 2)
    tensors, facts = session.export_state()
    with pytest.raises(StateError, match="opening"):
        realtime(small_bundle).import_state(tensors | {"opening": opening}, facts)
