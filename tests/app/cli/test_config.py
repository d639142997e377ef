"""Options of ``ocl-edge run`` in a TOML file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomllib

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run


def written(directory: Path, text: str) -> str:
    (directory / "drive.toml").write_text(text)
    return str(directory / "drive.toml")


def test_a_run_takes_its_options_from_a_file(small_bundle: Bundle, frames: Path, tmp_path: Path) -> None:
    file = written(
        tmp_path,
        f'''
        bundle = "{small_bundle.path}"
        source = "{frames}"
        sink = ["masks:{tmp_path}/masks", "overlay:{tmp_path}/overlay"]
        backend = "torch"
        norm_every = 2
        opening = 1
        seed = 7
        quiet = true
        limit = 4
        ''',
    )
    assert run(["run", "--config", file, "--limit", "3", "--json", str(tmp_path / "run.json")]) == 0
    facts = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert facts["frames"] == 3  # the command line wins
    assert (facts["seed"], facts["opening"], facts["realtime"]["norm_every"]) == (7, 1.0, 2)
    assert facts["openings"]["mean"] == 1.0
    assert len(list((tmp_path / "masks").iterdir())) == len(list((tmp_path / "overlay").iterdir())) == 3


def test_the_printed_config_is_a_config_that_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "run",
        "my bundle",
        "--source",
        'a"b',
        "--sink",
        "masks:x",
        "--sink",
        "overlay:y",
        "--fps",
        "7.5",
    ]
    assert run([*asked, "--no-build", "--print-config"]) == 0
    printed = capsys.readouterr().out
    known = tomllib.loads(printed)
    assert known["bundle"] == "my bundle"
    assert known["source"] == 'a"b'
    assert known["sink"] == ["masks:x", "overlay:y"]
    assert (known["fps"], known["no-build"], known["mode"]) == (7.5, True, "realtime")
    assert "lr" not in known
    assert run(["run", "--config", written(tmp_path, printed), "--print-config"]) == 0
    assert tomllib.loads(capsys.readouterr().out) == known


def test_a_printed_config_tells_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    url = "rtsp://user:hunter2@camera/stream?token=hunter2"
    assert run(["run", "b", "--source", url, "--source-option", "key=hunter2", "--print-config"]) == 0
    assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("norm-evry = 2", "unknown option 'norm-evry'; norm-every?"),
        ("quiet = 1", "quiet is true or false"),
        ("seed = true", "seed takes a text or a number"),
        ("[source]\na = 1", "source takes a text or a number"),
        ("limit = 1979-05-27", "limit takes a text or a number"),
        ("seed = ", "is no TOML"),
        ("seed = 1\nseed = 2", "is no TOML"),
        ("a = " + "[" * 5000, "is no TOML"),
        ("seed = -1", "--seed"),
        (f"limit = {'9' * 5000}", "is no TOML"),
        (f"limit = 0x{'f' * 9000}", "limit has 36000 bits"),
        ("config = 'x'", "unknown option 'config'"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_a_sentence(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "b", "--source", "x", "--config", written(tmp_path, text)]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_what_is_no_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "big.toml").write_bytes(b"#" * (2 << 20))
    for name, words in (("none.toml", "No such file"), (".", "a directory"), ("big.toml", "bytes")):
        assert run(["run", "b", "--source", "x", "--config", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err
