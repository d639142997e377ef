"""``ocl-edge sweep``: what the file means, what it may not say, and the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from ocl_edge_app.cli.sweep_file import read_sweep
from tests.app.html_rules import checked

SWEEP = """
methods = ["frozen", "norm", "ocl-head"]
corruption = "contrast:3"
seeds = [1]
backend = "torch"
lr = [0.02, 0.1]
opening = 1

[bundles]
all-rows = "{first}"
some-rows = "{second}"

[streams.dusk]
frames = "{frames}"
labels = "{labels}"

[streams.short]
frames = "{frames}"
labels = {{ all-rows = "{labels}", some-rows = "{labels}" }}
limit = 3
"""


@pytest.fixture
def sweep(
    tmp_path: Path,
    frames: Path,
    small_bundle: Bundle,
    sampled_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    labels, generator = tmp_path / "labels", np.random.default_rng(0)
    labels.mkdir()
    for file in frames.iterdir():
        Image.fromarray(generator.integers(0, 5, (40, 50), dtype=np.uint8)).save(labels / file.name)
    file = tmp_path / "sweep.toml"
    places = {"first": small_bundle.path, "second": sampled_bundle.path, "frames": frames, "labels": labels}
    file.write_text(SWEEP.format(**places), "utf-8")
    monkeypatch.chdir(tmp_path)
    return file


def test_a_list_is_a_grid(sweep: Path) -> None:
    entries = read_sweep(sweep, threads=1)
    assert [(each.bundle, each.stream) for each in entries] == [
        ("all-rows", "dusk"),
        ("all-rows", "short"),
        ("some-rows", "dusk"),
        ("some-rows", "short"),
    ]
    assert list(entries[0].points) == ["lr 0.02", "lr 0.1"]
    asked = entries[1].points["lr 0.1"]
    assert (asked.methods, asked.corruptions, asked.seeds) == (
        "frozen,norm,ocl-head",
        ("contrast:3",),
        (1,),
    )
    assert (asked.lr, asked.opening, asked.threads, entries[1].named.limit) == (0.1, 1.0, 1, 3)


def test_a_sweep_has_the_numbers_of_evaluate_and_goes_on(
    sweep: Path, tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", str(sweep), "--threads", "1", "--json", "rows.json"]) == 0
    said = capsys.readouterr()
    assert "[16/16] some-rows on short: ocl-head (lr 0.1) on contrast:3, seed 1" in said.err
    found = json.loads(Path("rows.json").read_text("utf-8"))
    bundle = read_sweep(sweep, 1)[2].path
    words = ["evaluate", str(bundle), "--frames", str(frames), "--labels", "labels", "--threads", "1"]
    words += ["--backend", "torch", "--lr", "0.1", "--opening", "1", "--seeds", "1"]
    assert run([*words, "--corruption", "contrast:3", "--json", "alone.json"]) == 0
    alone = {row["method"]: row for row in json.loads(Path("alone.json").read_text("utf-8"))["rows"]}
    of_sweep = {
        row["method"]: row
        for row in found["rows"]
        if (row["bundle"], row["stream"], row["corruption"]) == ("some-rows", "dusk", "contrast:3")
        and row["options"] in ("", "lr 0.1")
    }
    for method in ("frozen", "norm", "ocl-head"):
        assert of_sweep[method]["miou"] == alone[method]["miou"]
        assert of_sweep[method]["gain"] == alone[method]["gain"]
    assert of_sweep["norm"]["options"] == ""
    assert of_sweep["ocl-head"]["options"] == "lr 0.1"
    for total in found["totals"]:
        of_total = [
            row["miou"]
            for row in found["rows"]
            if all(row[name] == total[name] for name in ("bundle", "method", "views", "options"))
        ]
        assert len(of_total) == 2
        assert total["miou"] == pytest.approx(np.mean(of_total))
        assert total["least"] == min(of_total)
    best = max(found["totals"], key=lambda each: each["miou"])
    assert found["totals"][0] == best

    assert checked(Path("sweep/report.html").read_text("utf-8")).problems == []
    page = Path("sweep/report.md").read_text("utf-8")
    assert f"| **{best['miou']:.2f}** |" in page
    assert page.count("\n| dusk, contrast:3 |") == 8

    capsys.readouterr()
    Path("sweep/some-rows.short.json").unlink()
    assert run(["sweep", str(sweep), "--threads", "1", "--json", "-"]) == 0
    again = capsys.readouterr()
    assert "12 of 16 passes are finished in sweep already" in again.err
    names = ("bundle", "stream", "corruption", "method", "options", "miou")
    rows = [[row[name] for name in names] for row in json.loads(again.out)["rows"]]
    assert rows == [[row[name] for name in names] for row in found["rows"]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[bundles]", "[bundle]", '[bundles] holds NAME = "PATH" for each bundle, got nothing'),
        ("methods =", "metods =", "unknown key 'metods'; methods?"),
        ("opening = 1", "limit = 3", "limit is of one stream: write it under [streams.NAME]"),
        ("limit = 3", "lr = 0.1", "streams.short: lr is of all streams: write it above [bundles]"),
        ("opening = 1", "opening = 7", "Invalid value for '--opening'"),
        ("opening = 1", "threads = 1", "unknown key 'threads'"),
        ("[0.02, 0.1]", '[0.02, "x"]', "Invalid value for '--lr'"),
        ("[0.02, 0.1]", "[]", "lr is an empty list"),
        ("[0.02, 0.1]", str(list(range(1001))), "the grid of lr has 1,001 points, at most 1,000"),
        ("limit = 3", "limit = [3, 4]", "limit takes a text or a number, got [3, 4]"),
        ("seeds = [1]", "seeds = [-1]", "expected whole numbers from 0"),
        ("all-rows =", '"../all" =', "'../all' names results: expected up to 64 letters"),
        ("{ all-rows =", "{ other =", "streams.short.labels is for a bundle 'other'"),
        ("[streams.dusk]", "[streams]", "streams.frames is a table, got"),
        ('backend = "torch"', "backend = ", "is no TOML"),
        ('"contrast:3"', '"rain:3"', "unknown corruption 'rain'"),
        ("limit = 3", "", "all-rows on short is the same as all-rows on dusk"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    sweep: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = sweep.read_text("utf-8")
    assert old in text
    sweep.write_text(text.replace(old, new, 1), "utf-8")
    assert run(["sweep", str(sweep), "--threads", "1"]) == 2
    assert message in capsys.readouterr().err.replace("\n  ", " ")


def test_a_missing_file_and_a_missing_bundle_are_named(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", "none.toml"]) == 2
    assert "none.toml cannot be read" in capsys.readouterr().err
    text = sweep.read_text("utf-8")
    kept = read_sweep(sweep, None)[0].path
    sweep.write_text(text.replace(str(kept), str(tmp_path / "gone")), "utf-8")
    assert run(["sweep", str(sweep)]) == 1
    assert "gone" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "sweep")
