"""What a terminal, a log and a program see: 80 columns, no control characters, --quiet, --json -."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from ocl_edge_app.cli.options import command_line
from ocl_edge_app.cli.output import note, print_rows, print_table
from tests.doubles.bundles import SMALL_ARCH

HOSTILE = "\x1b[31mred\x1b[0m\r\a [bold]x[/] :car: \x9b2J"
LONG_CLASS = "something_that_only_a_very_long_name_describes"


@pytest.fixture
def commands(
    small_bundle: Bundle, small_checkpoint: Path, frames: Path, tmp_path: Path
) -> dict[str, list[str]]:
    """run, profile, evaluate and export, each of them quick."""
    (tmp_path / "labels").mkdir()
    for file in frames.iterdir():
        stripes = np.tile(np.arange(50) // 17, (40, 1)).astype(np.uint8)
        Image.fromarray(stripes).save(tmp_path / "labels" / file.name)
    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps({"classes": [LONG_CLASS, f"{LONG_CLASS}_1", f"{LONG_CLASS}_2"]}))
    bundle, source = str(small_bundle.path), str(frames)
    export = ["export", str(small_checkpoint), "--arch", SMALL_ARCH, "--input-size", "48x64", "--force"]
    evaluate = ["evaluate", bundle, "--frames", source, "--labels", str(tmp_path / "labels")]
    evaluate += ["--label-classes", str(classes), "--label-map", str(tmp_path / "map.json")]
    (tmp_path / "map.json").write_text("[0, 1, 2, 2, 2]")
    return {
        "run": ["run", bundle, "--source", source, "--mode", "paper"],
        "profile": ["profile", bundle, "--source", source, "--frames", "3", "--warmup", "0"],
        "evaluate": [*evaluate, "--seeds", "0,1"],
        "export": [*export, "--out", str(tmp_path / "exported")],
    }


VERBS = ("run", "profile", "evaluate", "export")


@pytest.mark.parametrize("verb", [*VERBS, "inspect", "doctor"])
def test_a_log_has_80_columns_and_no_control_characters(
    verb: str, commands: dict[str, list[str]], small_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {"inspect": ["inspect", str(small_bundle.path)], "doctor": ["doctor"]}
    assert run((commands | others)[verb]) == 0
    shown = capsys.readouterr()
    assert shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "…" not in shown.out  # nothing was cut off
    assert all(c.isprintable() or c == "\n" for c in shown.out + shown.err)


def test_a_colour_that_the_environment_asks_for_stays_out_of_a_log(commands: dict[str, list[str]]) -> None:
    command = [sys.executable, "-m", "ocl_edge", *commands["profile"]]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "FORCE_COLOR": "1"}
    )
    assert "whole frame" in done.stdout
    assert all(c.isprintable() or c == "\n" for c in done.stdout + done.stderr)


@pytest.mark.parametrize("verb", VERBS)
def test_quiet_says_nothing_unless_something_is_wrong(
    verb: str, commands: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "results.json"
    assert run([*commands[verb], "--quiet", "--json", str(target)]) == 0
    assert capsys.readouterr() == ("", "")
    assert json.loads(target.read_text("utf-8"))
    assert run([*commands[verb], "-q", "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)
    assert shown.err == ""
    broken = [word if word != commands[verb][1] else str(tmp_path / "nothing") for word in commands[verb]]
    assert run([*broken, "--quiet"]) != 0
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_json_on_standard_output_stands_alone(
    verb: str, commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*commands[verb], "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert isinstance(json.loads(shown.out), dict)
    if verb in ("evaluate", "export"):
        assert shown.err  # progress is not silenced by the way


def test_text_is_shown_as_it_is_without_its_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(HOSTILE, {HOSTILE: HOSTILE})
    print_table(HOSTILE, ["name", "n"], [[HOSTILE, "1"]])
    note(HOSTILE)
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("[bold]x[/] :car:") == 6
    assert all(c.isprintable() or c == "\n" for c in shown.out + shown.err)


def test_numbers_are_never_folded_and_text_is(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["name " * 30, "123456.78", "fence " * 20, "0.5"]]
    print_table("title", ["name", "number", "class", "n"], rows, text_columns=(0, 2))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("123456.78" in line for line in lines) == 1
    assert " ".join(lines).count("fence") == 20


def test_the_command_is_remembered_as_it_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    @click.argument("words", nargs=-1)
    def echo(words: tuple[str, ...]) -> None:
        click.echo(command_line())

    echo.main(["a b"], standalone_mode=False, obj=["ocl-edge", "run", "a b"])
    assert capsys.readouterr().out == "ocl-edge run 'a b'\n"
    long = ["ocl-edge", "run", "b" * 70, "--source", "it's", "--quiet"]
    echo.main(["x"], standalone_mode=False, obj=long)
    typed = capsys.readouterr().out
    assert typed.splitlines()[1:] == ["    --source 'it'\"'\"'s' \\", "    --quiet"]
    shell = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {typed}"], capture_output=True, text=True, check=True
    )
    assert shell.stdout.splitlines() == long


def test_the_command_of_a_report_holds_no_secrets() -> None:
    words = [
        "ocl-edge",
        "run",
        "b",
        "--source",
        "rtsp://me:hunter 2@camera/x",
        "--source=srt://h?passphrase=hunter2",
    ]
    words += ["--source-option", "passphrase=hunter2", "--source-option=headers=Cookie: hunter2"]
    words += ["--source-option", "video_size=1280x720", "--sink", "masks:out=1/masks"]
    with click.Context(click.Command("ocl-edge"), obj=words):
        shown = command_line()
    assert "hunter" not in shown
    assert "rtsp://***@camera/x" in shown
    assert "passphrase=***" in shown
    assert "video_size=1280x720" in shown
    assert "masks:out=1/masks" in shown


def test_an_exception_that_nobody_expected_is_one_line(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("divided by\n\x1b[31mnothing in rtsp://me:hunter2@camera/x")

    monkeypatch.setattr(Bundle, "open", broken)
    assert run(["inspect", str(small_bundle.path)]) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(
        "error: inspect, in ocl_edge_app.cli.bundles.open_bundle: ZeroDivisionError: divided by "
    )
    assert "this is a fault of ocl-edge: please report it (--debug shows the rest)" in said
    assert "hunter2" not in said
    assert "\x1b" not in said
    assert run(["inspect", str(small_bundle.path), "--debug"]) == 70
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "hunter2" not in said
    assert "\x1b" not in said


def test_errors_show_the_words_of_strangers_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["inspect", HOSTILE],
        ["run", HOSTILE, "--source", HOSTILE],
        [HOSTILE],
        ["run", "--x" + HOSTILE],
    ):
        assert run(arguments) in (1, 2)
        said = capsys.readouterr().err
        assert all(c.isprintable() or c == "\n" for c in said)
        assert "\\x1b[31mred" in said
