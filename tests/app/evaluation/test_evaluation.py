"""The online protocol on labels that are known."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagecorruptions import get_corruption_names
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.method.methods import PUBLISHED
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_app.cli import run
from ocl_edge_app.evaluation.corruption import Corruption, parse_corruption
from ocl_edge_app.evaluation.grid import Evaluation, Trial
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space
from ocl_edge_app.evaluation.passes import Local, Pass, Scored, run_passes
from ocl_edge_app.evaluation.protocol import PassSoFar, Result, evaluate_stream
from ocl_edge_app.evaluation.summary import Group, summarise
from ocl_edge_app.evaluation.unfinished import Unfinished
from ocl_edge_app.evaluation.what_is_scored import Named
from ocl_edge_runtime.memory import forget_peak, peak_mib
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.doubles.images import random_image

SPACE = LabelSpace(tuple("abcde"), 255, None)


@pytest.fixture
def labels(frames: Path, small_bundle: Bundle, tmp_path: Path) -> Path:
    """What the frozen network says, a tenth of it replaced by chance: a stream with a known score."""
    directory = tmp_path / "labels"
    directory.mkdir()
    session, generator = (
        open_session(small_bundle, SessionOptions("frozen", "pair")),
        np.random.default_rng(0),
    )
    for index in range(6):
        mask = session.step(random_image(index)).mask
        noise = generator.integers(0, 5, mask.shape, dtype=np.uint8)
        noisy = np.where(generator.random(mask.shape) < 0.1, noise, mask)
        noisy[:3] = 255
        Image.fromarray(noisy.astype(np.uint8)).save(directory / f"frame_{index:02d}.png")
    return directory


def arguments(bundle: Bundle, frames: Path, labels: Path, *more: str) -> list[str]:
    return ["evaluate", str(bundle.path), "--frames", str(frames), "--labels", str(labels), *more]


def test_scores_equal_a_confusion_matrix_by_hand(small_bundle: Bundle, frames: Path, labels: Path) -> None:
    pairs = LabelledFrames.find(str(frames), labels)
    result = evaluate_stream(open_session(small_bundle), pairs, SPACE, Corruption())
    matrix, session = ConfusionMatrix(5, 255), open_session(small_bundle)
    for index in range(6):
        matrix.add(
            session.step(random_image(index)).mask, np.array(Image.open(labels / f"frame_{index:02d}.png"))
        )
    assert result.frames == 6
    assert result.miou == pytest.approx(100 * matrix.miou())
    assert len(result.frame_miou) == 6
    assert result.ms_per_frame > 0


@pytest.mark.parametrize(
    ("background", "foreground", "classes", "doubted"),
    [
        (0, 255, ("background", "road"), True),
        (0, 1, ("background", "road"), False),
        (1, 255, ("void", "road", "sky"), True),
        (0, 0, ("background", "road"), False),
    ],
)
def test_labels_of_0_and_255_are_doubted(
    tmp_path: Path, background: int, foreground: int, classes: tuple[str, ...], doubted: bool
) -> None:
    label = np.full((40, 50), background, np.uint8)
    label[10:30, 10:40] = foreground
    Image.fromarray(label).save(tmp_path / "0.png")
    frames = LabelledFrames(((tmp_path / "0.png", tmp_path / "0.png"),))
    doubt = frames.doubt(LabelSpace(classes, 255, None))
    assert (doubt is not None) == doubted
    if doubt is not None:
        assert "255 is ignored and fills 30 % of the labels" in doubt


def test_labels_never_reach_the_method(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in labels.iterdir():
        Image.fromarray(np.zeros((40, 50), np.uint8)).save(other / file.name)
    hashes = []
    for directory in (labels, other):
        session = open_session(small_bundle)
        evaluate_stream(session, LabelledFrames.find(str(frames), directory), SPACE, Corruption())
        hashes.append(session.weights.weights_sha256())
    assert hashes[0] == hashes[1]


def test_a_busy_method_answers_with_its_latest_mask(small_bundle: Bundle, frames: Path, labels: Path) -> None:
    """The mask takes 1 s on a simulated clock, the update another; 2 frames arrive a second."""
    session = open_session(small_bundle, SessionOptions("frozen", "pair"))
    pairs = LabelledFrames.find(str(frames), labels)
    result = evaluate_stream(session, pairs, SPACE, Corruption(), stream_fps=2.0, clock=ticking())
    assert (result.frames, result.answered_late) == (6, 4)
    assert result.frame_ms == [2000, 2000]
    matrix, masks = ConfusionMatrix(5, 255), [session.step(random_image(i)).mask for i in range(6)]
    # frame 4 is worked on from second 2; frame 5 comes half a second later, before its mask is ready
    for index, answered_with in enumerate([0, 0, 0, 0, 4, 0]):
        matrix.add(masks[answered_with], np.array(Image.open(labels / f"frame_{index:02d}.png")))
    assert result.miou == pytest.approx(100 * matrix.miou())


def ticking(from_: int = 0) -> Callable[[], float]:
    """A clock that is a second later each time."""
    ticks = itertools.count(from_)
    return lambda: float(next(ticks))


def test_a_busy_method_gets_no_time_from_frames_of_another_size(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path
) -> None:
    mixed = Path(shutil.copytree(frames, tmp_path / "mixed"))
    for index in (1, 3, 5):
        for directory in (mixed, labels):
            file = directory / f"frame_{index:02d}.png"
            with Image.open(file) as image:
                resized = image.resize((70, 60), Image.Resampling.NEAREST)
            resized.save(file)
    session = open_session(small_bundle, SessionOptions("frozen", "pair"))
    pairs = LabelledFrames.find(str(mixed), labels)
    result = evaluate_stream(session, pairs, SPACE, Corruption(), stream_fps=1.0, clock=ticking())
    assert (len(result.frame_ms), result.answered_late) == (3, 3)


def test_what_a_frame_in_between_gets_is_brought_to_its_size() -> None:
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    so_far = PassSoFar(np.zeros((5, 6), np.int64), latest=mask)
    assert np.array_equal(so_far.answer(1.0, (2, 3)), mask)
    assert np.array_equal(so_far.answer(1.0, (4, 6)), mask.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(so_far.answer(1.0, (1, 3)), mask[:1])
    assert so_far.result.answered_late == 3


def test_peak_memory_is_that_of_the_pass() -> None:
    """What lived for a moment counts, and what lived before does not."""

    def touch(mib: int) -> None:
        bytearray(mib * 2**20)[::4096] = b"x" * (mib * 256)

    touch(600)
    forget_peak()
    before = peak_mib()
    touch(200)
    assert before + 150 < peak_mib() < before + 450


@pytest.mark.parametrize("name", get_corruption_names("all"))
def test_corruptions_are_repeatable_and_leave_the_global_generator_alone(name: str) -> None:
    image, corruption = random_image(0, 64, 80), parse_corruption(f"{name}:2")
    np.random.seed(5)
    expected_next = np.random.RandomState(5).rand()
    first = corruption.apply(image, 7)
    assert np.random.rand() == expected_next
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, corruption.apply(image, 7))
    assert not np.array_equal(first, image)


def test_every_frame_is_corrupted_in_its_own_way() -> None:
    image = random_image(0, 64, 80)
    for text in ("fog:3", "impulse_noise:2", "glass_blur:1"):
        first, second = (parse_corruption(text).apply(image, index) for index in (1, 2))
        assert not np.array_equal(first, second)
    assert parse_corruption("clean").apply(image, 0) is image


def test_a_frame_too_small_to_corrupt_is_explained() -> None:
    with pytest.raises(UsageError, match="--corruption fog:3 needs frames of 32x32 or more, got 80x31"):
        parse_corruption("fog:3").apply(random_image(0, 31, 80), 0)


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_numbers(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    grid = (
        "--methods",
        "frozen,norm,ocl-head",
        "--corruption",
        "clean",
        "--corruption",
        "contrast:2",
        "--seeds",
        "0,1",
    )
    assert run(arguments(small_bundle, frames, labels, *grid, "--json", str(whole))) == 0
    assert run(arguments(small_bundle, frames, labels, "--methods", "frozen,norm", "--json", str(parts))) == 0
    capsys.readouterr()
    assert run(arguments(small_bundle, frames, labels, *grid, "--json", str(parts))) == 0
    assert "2 of 8 passes are finished" in capsys.readouterr().err
    content = json.loads(parts.read_text("utf-8"))
    assert {row["method"] for row in content["rows"]} == {"frozen", "norm", "ocl-head"}
    assert not [f for f in tmp_path.iterdir() if "partial" in f.name]

    def scores(path: Path) -> dict[str, list[float]]:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        return {key: [r["miou"] for r in cell["rounds"]] for key, cell in cells.items()}

    assert scores(whole) == scores(parts)
    assert len(scores(whole)) == 8  # frozen and norm have no seed


@pytest.mark.parametrize("method", ["ocl-head", "ocl-norm"])
@pytest.mark.parametrize("frames_before_the_kill", [4, 9])
def test_a_pass_goes_on_where_it_was_killed(
    small_bundle: Bundle,
    frames: Path,
    labels: Path,
    tmp_path: Path,
    method: str,
    frames_before_the_kill: int,
) -> None:
    """Two rounds of six frames, killed in either; weights, momentum and restoration go on bit for bit."""
    pairs = LabelledFrames.find(str(frames), labels)
    options = SessionOptions(method, lr=0.1, restoration=0.2, seed=3, opening=1.0)
    settings = options.settings_over(small_bundle.manifest.adaptation)
    cell = Trial(options, settings, Corruption("contrast", 2), 2, None)

    def run_it(path: Path, kill_after: int | None = None) -> dict[str, Any]:
        evaluation, seen = Evaluation("context", {}, path), itertools.count(1)
        evaluation.resume()

        def on_frame(_: float) -> None:
            if next(seen) == kill_after:
                raise KeyboardInterrupt

        unfinished = Unfinished(evaluation.unfinished_path, every_s=0.0)
        scored = Scored(small_bundle, Named(), pairs, SPACE)
        run_passes(
            [Pass(evaluation, scored, cell)],
            Local(unfinished),
            lambda _pass, _done: on_frame,
            lambda _file, _error: None,
        )
        (content,) = evaluation.cells.values()
        for result in content["rounds"]:  # times are never the same twice
            del result["ms_per_frame"], result["memory_mib"]
            assert len(result.pop("frame_ms")) == 6
        return content

    whole = run_it(tmp_path / "whole.json")
    with pytest.raises(KeyboardInterrupt):
        run_it(tmp_path / "parts.json", frames_before_the_kill)
    assert (tmp_path / ".parts.json.unfinished").is_file()
    assert run_it(tmp_path / "parts.json") == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["labels", "parts.json", "whole.json"]


def test_a_killed_pass_knows_what_the_method_was_busy_with(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path
) -> None:
    """Killed while frame 4 is worked on: frame 5 then gets the mask before that one."""
    pairs = LabelledFrames.find(str(frames), labels)
    kept = Unfinished(tmp_path / "kept", every_s=0.0)

    def run_it(so_far: PassSoFar | None, kill_after: int | None = None) -> Result:
        session, seen = open_session(small_bundle, SessionOptions("frozen", "pair")), itertools.count(1)

        def on_frame(_: float) -> None:
            if next(seen) == kill_after:
                raise KeyboardInterrupt

        return evaluate_stream(
            session,
            pairs,
            SPACE,
            Corruption(),
            2.0,
            on_frame,
            clock=ticking(),
            so_far=so_far,
            keep=partial(kept.save_if_due, "key", session, []),
        )

    whole = run_it(None)
    with pytest.raises(KeyboardInterrupt):
        run_it(None, kill_after=6)
    _, so_far = kept.resume("key", open_session(small_bundle, SessionOptions("frozen", "pair")))
    assert so_far is not None
    assert (so_far.next_index, so_far.ready_at, so_far.busy_until) == (5, 3.0, 4.0)
    assert replace(run_it(so_far), memory_mib=0.0) == replace(whole, memory_mib=0.0)


def test_a_damaged_unfinished_pass_is_refused_by_name(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".results.json.unfinished").write_bytes(b"damaged")
    assert run(arguments(small_bundle, frames, labels, "--json", str(tmp_path / "results.json"))) == 1
    assert ".results.json.unfinished is damaged" in capsys.readouterr().err


def test_a_file_of_another_evaluation_is_kept(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    assert run(arguments(small_bundle, frames, labels, "--methods", "frozen", "--json", str(path))) == 0
    before = path.read_bytes()
    assert run(arguments(small_bundle, frames, labels, "--limit", "3", "--json", str(path))) == 2
    assert "another bundle, other frames or labels" in capsys.readouterr().err
    assert path.read_bytes() == before
    for kind, original in (("images", frames), ("labels", labels)):  # the same names, other content
        other = Path(shutil.copytree(original, tmp_path / f"other {kind}"))
        Image.fromarray(np.array(Image.open(other / "frame_01.png"))[::-1]).save(other / "frame_01.png")
        given = (other, labels) if kind == "images" else (frames, other)
        assert run(arguments(small_bundle, *given, "--json", str(path))) == 2
        assert path.read_bytes() == before
    path.write_text("precious")
    assert run(arguments(small_bundle, frames, labels, "--json", str(path))) == 2
    assert path.read_text("utf-8") == "precious"


def test_passes_of_other_defaults_are_other_passes(small_bundle: Bundle) -> None:
    """A later version may have other defaults; its passes are not those of this one."""
    options = SessionOptions("ocl-full", opening=1.0)
    settings = options.settings_over(small_bundle.manifest.adaptation)
    cells = [
        Trial(options, s, Corruption(), 1, None) for s in (settings, settings.model_copy(update={"lr": 2e-5}))
    ]
    assert len({cell.key("context") for cell in cells}) == 2


def test_auto_is_resolved_before_anything_runs(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    to_file = ("--methods", "norm", "--json", str(path))
    assert run(arguments(small_bundle, frames, labels, *to_file)) == 0
    (cell,) = json.loads(path.read_text("utf-8"))["cells"].values()
    assert run(arguments(small_bundle, frames, labels, *to_file, "--backend", cell["backend"])) == 0
    assert "1 of 1 passes are finished" in capsys.readouterr().err
    assert run(arguments(small_bundle, frames, labels, *to_file, "--backend", "torch")) == 0
    assert len(json.loads(path.read_text("utf-8"))["cells"]) == 2


def test_views_are_never_mixed(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = ("--views", "single", "--methods", "frozen,norm", "--json", "-")
    assert run(arguments(small_bundle, frames, labels, *single)) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert (rows["frozen"]["views"], rows["norm"]["views"]) == ("single", "pair")
    assert rows["norm"]["gain"] is None
    page = tmp_path / "mixed.html"
    assert run(arguments(small_bundle, frames, labels, *single, "--html", str(page))) == 0
    capsys.readouterr()
    for label in ("frozen (single)", "norm (pair)"):
        assert f"mIoU, {label}" in page.read_text("utf-8")
    assert run(arguments(small_bundle, frames, labels, "--rounds", "2", "--json", "-")) == 0
    content = json.loads(capsys.readouterr().out)
    rows = {row["method"]: row for row in content["rows"]}
    assert rows["norm"]["gain"] == pytest.approx(rows["norm"]["miou"] - rows["frozen"]["miou"])
    assert all(len(cell["rounds"]) == 2 for cell in content["cells"].values())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--methods", "magic", "unknown method 'magic'; known: frozen, norm"),
        ("--corruption", "rain:3", "unknown corruption 'rain'"),
        ("--corruption", "fog:9", "severity of 1 to 5"),
        ("--seeds", "a", "whole numbers"),
        ("--seeds", "-1", "numbers from 0 to 4294967295"),
        ("--json", "nowhere/r.json", "there is no directory nowhere"),
        ("--label-map", "none.json", "none.json cannot be read"),
    ],
)
def test_wrong_options_are_explained(
    small_bundle: Bundle,
    frames: Path,
    labels: Path,
    option: str,
    value: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(arguments(small_bundle, frames, labels, option, value)) == 2
    assert message in capsys.readouterr().err


def test_unpaired_and_empty_directories_are_explained(frames: Path, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        LabelledFrames.find(str(frames), tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"6 of 6 frames have no label file.*frame_00\.png"):
        LabelledFrames.find(str(frames), tmp_path / "empty")
    with pytest.raises(UsageError, match="holds no images"):
        LabelledFrames.find(str(tmp_path / "empty"), labels)


def test_label_files_are_checked(frames: Path, labels: Path) -> None:
    pairs = LabelledFrames.find(str(frames), labels)
    Image.fromarray(np.zeros((40, 49), np.uint8)).save(labels / "frame_00.png")
    with pytest.raises(UsageError, match=r"frame_00\.png is 49x40, its frame 50x40"):
        pairs.read(0)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(labels / "frame_01.png")
    with pytest.raises(
        UsageError, match=r"frame_01\.png cannot be read: it holds colours: give the classes theirs"
    ):
        pairs.read(1)
    (labels / "frame_02.png").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be read"):
        pairs.read(2)


def test_unknown_label_values_stop_the_evaluation(small_bundle: Bundle, frames: Path, labels: Path) -> None:
    Image.fromarray(np.full((40, 50), 9, np.uint8)).save(labels / "frame_03.png")
    with pytest.raises(UsageError, match=r"\[9\] are neither classes"):
        evaluate_stream(
            open_session(small_bundle), LabelledFrames.find(str(frames), labels), SPACE, Corruption()
        )


def test_label_maps_are_read_and_checked(small_bundle: Bundle, tmp_path: Path) -> None:
    manifest = small_bundle.manifest
    (tmp_path / "map.json").write_text(json.dumps({"source": ["x"], "to_two": [0, 0, 1, 1, 9]}))
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["left", "right"], "ignore_index": 2}))
    space = read_label_space(manifest, tmp_path / "map.json", tmp_path / "classes.json")
    assert space == LabelSpace(("left", "right"), 2, (0, 0, 1, 1, 9))
    assert read_label_space(manifest, None, None).names == tuple(f"class_{i}" for i in range(5))
    with pytest.raises(UsageError, match=r"has 2 classes and the network 5: --label-map must say"):
        read_label_space(manifest, None, tmp_path / "classes.json")
    (tmp_path / "short.json").write_text("[0, 1]")
    with pytest.raises(UsageError, match="has 2 entries, the network has 5 classes"):
        read_label_space(manifest, tmp_path / "short.json", None)
    (tmp_path / "wrong.json").write_text('{"to_a": [0], "to_b": [1]}')
    with pytest.raises(UsageError, match="expected a list of label classes"):
        read_label_space(manifest, tmp_path / "wrong.json", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected an object"),
        ({"classes": []}, "1 to 65535 names"),
        ({"classes": ["a"] * 65536}, "1 to 65535 names"),
        ({"classes": list("abcde"), "ignore_index": None}, "'ignore_index' must be a whole number"),
        ({"classes": list("abcde"), "ignore_index": "x"}, "'ignore_index' must be a whole number"),
    ],
)
def test_class_files_are_checked(small_bundle: Bundle, tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        read_label_space(small_bundle.manifest, None, tmp_path / "classes.json")


def test_a_class_that_never_occurs_is_left_out_of_the_mean(
    small_bundle: Bundle, frames: Path, labels: Path
) -> None:
    for file in labels.iterdir():
        values = np.array(Image.open(file))
        values[values == 2] = 255
        Image.fromarray(values).save(file)
    result = evaluate_stream(
        open_session(small_bundle), LabelledFrames.find(str(frames), labels), SPACE, Corruption()
    )
    assert result.iou[2] is None
    present = [v for v in result.iou if v is not None]
    assert result.miou == pytest.approx(np.mean(present))
    (row,) = summarise([Group("norm", "pair", "clean", [[result]])], SPACE)
    assert row.worst_class == SPACE.names[result.iou.index(min(present))]
    assert row.worst_iou == min(present)


def test_the_worst_class_is_the_one_with_the_lowest_mean_over_the_seeds() -> None:
    space = LabelSpace(("a", "b", "c"), 255, None)
    seeds = [
        [Result(3, miou=1, iou=[90.0, b, c], answered_late=late)]
        for b, c, late in ((5.0, 40.0, 1), (40.0, 8.0, 2), (40.0, 36.0, 3))
    ]
    (row,) = summarise([Group("ocl-head", "pair", "clean", seeds)], space)
    assert (row.worst_class, row.worst_iou, row.answered_late) == ("c", 28.0, 2.0)
    (nothing,) = summarise([Group("norm", "pair", "clean", [[Result(iou=[None] * 3)]])], space)
    assert nothing.worst_class == "–"
    assert np.isnan(nothing.worst_iou)


def test_every_round_is_shown(
    small_bundle: Bundle, frames: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = ("--rounds", "2", "--methods", "ocl-head", "--lr", "5")
    assert run(arguments(small_bundle, frames, labels, *two, "--json", "-")) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["rounds"][0] != row["rounds"][1] == row["miou"]
    assert run(arguments(small_bundle, frames, labels, *two)) == 0
    assert f"{row['rounds'][0]:.1f} {row['rounds'][1]:.1f}" in capsys.readouterr().out


def test_frames_that_cannot_be_read_are_named_once_and_counted(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copytree(frames, tmp_path / "broken"))
    (broken / "frame_02.png").write_bytes(b"")
    assert run(arguments(small_bundle, broken, labels, "--html", str(tmp_path / "e.html"))) == 0
    said = capsys.readouterr()
    assert said.err.count("frame_02.png is empty: left out") == 1
    assert "clean, 5 frames, 1 left out" in said.out
    page = (tmp_path / "e.html").read_text("utf-8")
    assert "6 labelled frames (1 of them left out)" in page
    assert "1 frame left out: not readable" in page


def test_late_frames_are_shown(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "late.html"
    fast = ("--stream-fps", "1e6", "--seeds", "0,1", "--methods", "frozen,ocl-head")
    assert run(arguments(small_bundle, frames, labels, *fast, "--html", str(page))) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[-1] == "late"
    assert [line.split()[-1] for line in table[2:4]] == ["5", "5"]  # the mean over the seeds, not their sum
    assert "Late: frames that arrived" in page.read_text("utf-8")


def test_methods_of_other_papers_run_beside_ours(
    small_bundle: Bundle, frames: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "field.json"
    names = ["frozen", *(method.name for method in PUBLISHED)]
    asked = arguments(
        small_bundle, frames, labels, "--methods", ",".join(names), "--views", "single", "--json", str(path)
    )
    assert run(asked) == 0
    content = json.loads(path.read_text("utf-8"))
    rows = {row["method"]: row for row in content["rows"]}
    assert list(rows) == names
    for name, row in rows.items():
        assert row["views"] == ("pair" if name == "ocl-published" else "single")
        assert (row["gain"] is None) == (name == "ocl-published"), "never against other views"
        assert row["opening"] is None, "they know no home"
    settings = {cell["method"]: cell["settings"] for cell in content["cells"].values()}
    assert settings["diga"]["prior"] == [0.8, 0.8]
    assert (settings["tent-published"]["lr"], settings["sar"]["lr"]) == (1e-3, 2.5e-4)
    assert len({row["miou"] for row in rows.values()}) > 4
    capsys.readouterr()
    assert run(asked) == 0
    assert f"{len(names)} of {len(names)} passes are finished" in capsys.readouterr().err
