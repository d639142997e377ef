"""The rules by which a command of the documentation is checked.

The first rule whose pattern is found decides. Most commands run for real, in a sandbox. Those that
cannot are read by the program's own parser instead, and the rule says why. A command without
a rule is an error: nothing is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from packaging.requirements import Requirement

from ocl_edge.tensorrt.flavours import is_installed
from ocl_edge_app.cli import cli, run
from tests.docs.docs_pages import ROOT
from tests.docs.docs_world import ARCH, HEIGHT, WIDTH

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Words = list[str]

STAND_INS = {
    r"(?<!\S)(?!two_tasks)\S+\.pth": "model.pth",
    r"(?<=--input-size )\S+": f"{HEIGHT}x{WIDTH}",
    r"--output (?!area=)\S+ ": "",
    r"--arch two_tasks\.py:twin": rf"\g<0> --input-size {HEIGHT}x{WIDTH}",
}
"""In an export: the sandbox's checkpoints, of one output and of two, and a small size."""

EXPORTED: dict[str, Path] = {}
"""Bundles by the command that made them."""


@dataclass(frozen=True)
class Rule:
    """How commands that a pattern is found in are checked, and why they are not just run."""

    pattern: str
    check: Callable[[Words], None]
    why_not_run: str = ""


def check(command: str) -> None:
    """Check one command by the first rule that fits it."""
    rule = next((rule for rule in RULES if re.search(rule.pattern, command)), None)
    assert rule is not None, f"no rule in tests/docs/command_rules.py for: {command}"
    rule.check(shlex.split(command, comments=True))


def run_ocl_edge(words: Words) -> None:
    """Run a verb; where a page pipes its output into jq, the output must be JSON that has the key."""
    words, piped = _cut_at_pipe(words)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert run(words[1:]) == 0, f"{shlex.join(words)} failed\n{output.getvalue()}"
    if piped:
        program, path = piped
        assert program == "jq"
        assert path.removeprefix(".") in json.loads(output.getvalue())


def export(words: Words) -> None:
    """As `run_ocl_edge`, over what lies there; what several pages print is exported once."""
    out = Path(words[words.index("--out") + 1] if "--out" in words else "model.ocl")
    shutil.rmtree(out, ignore_errors=True)
    parse_ocl_edge(words)
    command = shlex.join(words)
    for printed, stand_in in STAND_INS.items():
        command = re.sub(printed, stand_in, command)
    if "--arch" not in words:  # the sandbox's network is code of its own, which no checkpoint may name
        command += f" --arch {ARCH}"
    if command not in EXPORTED:
        run_ocl_edge(shlex.split(command))
        EXPORTED[command] = Path.cwd().parent / f"export_{len(EXPORTED)}"
        shutil.copytree(out, EXPORTED[command])
    shutil.copytree(EXPORTED[command], out, dirs_exist_ok=True)


def bake(words: Words) -> None:
    """A run learns first; the network is the sandbox's own."""
    state = words[words.index("--state") + 1]
    run_ocl_edge(shlex.split(f"ocl-edge run bundle --source frames/ --state {state} --resume auto"))
    run_ocl_edge([*words, *([] if "--arch" in words else ["--arch", ARCH])])


def run_watched(words: Words) -> None:
    """A run that is looked at, at ports that are free."""
    command = re.sub(
        r"--view web(:\S+)?", "--view web:0", re.sub(r"--metrics \S+", "--metrics :0", shlex.join(words))
    )
    run_ocl_edge(shlex.split(command))


def plan_build(words: Words) -> None:
    """``--dry-run``; where there is no TensorRT-RTX (it has no wheels but for x86-64) the arguments only."""
    if is_installed("tensorrt-rtx"):
        run_ocl_edge([*words, *(["--dry-run"] if "--dry-run" not in words else [])])
    else:
        parse_ocl_edge(words)


def parse_ocl_edge(words: Words) -> None:
    """Let the verb read its arguments; click raises where one is unknown or wrong."""
    verb, arguments = words[1], words[2:]
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None, f"no such verb: {verb}"
    if isinstance(command, click.Group):
        verb, arguments, command = arguments[0], arguments[1:], command.commands[arguments[0]]
    command.make_context(verb, arguments)


def parse_script(words: Words) -> None:
    """Let a script's own argparse or click read its arguments, and stop it there."""
    target, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
    if words[1] == "-m":
        importlib.import_module(target).main.make_context(target, arguments)
        return

    parsed = []
    parse_args = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *given: Any) -> None:
        parsed.append(parse_args(self, *given))
        raise KeyboardInterrupt

    def stop_click(self: click.Command) -> None:
        parsed.append(self.make_context(target, list(arguments)))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(click.Command, "main", stop_click)
        _run_as_main(words[1:])
    assert parsed, f"{target} read no arguments"


def run_script(words: Words) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        _run_as_main(words[1:])


def plan_make(words: Words) -> None:
    """make says what it would do: the target exists, and so does everything that it needs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(
        ["make", "--dry-run", *words[1:]], cwd=ROOT, env=environment, check=True, capture_output=True
    )


def read_requirements(words: Words) -> None:
    """pip would find this: our own package with extras that exist, or something that we depend on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    known = [*project["dependencies"], *(each for listed in extras.values() for each in listed)]
    wanted_words = words[2:]
    if "-c" in wanted_words:
        constraints = wanted_words.pop(wanted_words.index("-c") + 1)
        assert (ROOT / constraints).is_file(), constraints
    for word in (word for word in wanted_words if not word.startswith("-")):
        wanted = Requirement(re.sub(r"^\.(?=\[|$)", project["name"], word))
        assert wanted.name in {project["name"], *(Requirement(each).name for each in known)}, word
        if wanted.name == project["name"]:
            assert wanted.extras <= extras.keys(), f"{word}: pyproject.toml has the extras {sorted(extras)}"


def find_tests(words: Words) -> None:
    """The paths that a pytest command names exist; ``-k`` is a word of a file or test under them."""
    arguments = words[words.index("pytest") + 1 :]
    word = arguments.pop(arguments.index("-k") + 1) if "-k" in arguments else ""
    paths = [ROOT / argument for argument in arguments if not argument.startswith("-")]
    assert paths
    for path in paths:
        assert path.exists(), path
        files = [path] if path.is_file() else [*path.rglob("*.py"), *(ROOT / "docs").glob("*.md")]
        assert any(word in file.stem or word in file.read_text(encoding="utf-8") for file in files), word


def run_program(words: Words) -> None:
    subprocess.run(words, check=True, capture_output=True)


def accept(words: Words) -> None:
    """The rule's pattern is the whole command."""


RULES = (
    Rule(
        r"^ocl-edge build .*--backend tensorrt-rtx",
        plan_build,
        "compiling takes minutes; tests/export/engines does",
    ),
    Rule(r"^ocl-edge profile .*--estimate", parse_ocl_edge, "needs an engine; tests/export/engines does it"),
    Rule(r"^ocl-edge .*--backend (tensorrt|onnxruntime-)", parse_ocl_edge, "needs a GPU"),
    Rule(r"^ocl-edge demo\b", parse_ocl_edge, "takes minutes; tests/demo runs a short one"),
    Rule(
        r"^ocl-edge run .*--source '?(/dev/video|rtsp:|ros2:|gst:|csi:|\d+ )",
        parse_ocl_edge,
        "needs a camera",
    ),
    Rule(
        r"^ocl-edge (export GTA5_source|evaluate .*--dataset )",
        parse_ocl_edge,
        "needs data that nobody may pass on",
    ),
    Rule(r"^ocl-edge fleet ", parse_ocl_edge, "needs Flower and a server; tests/fleet does"),
    Rule(r"^ocl-edge run fleet/current ", parse_ocl_edge, "needs a fleet; tests/fleet does"),
    Rule(r"^ocl-edge export ", export),
    Rule(r"^ocl-edge run .*--view rerun", parse_ocl_edge, "needs a screen"),
    Rule(r"^ocl-edge run .*--(view|metrics) ", run_watched),
    Rule(r"^ocl-edge .*--engine ray", parse_ocl_edge, "starts a cluster; tests/app/evaluation does"),
    Rule(r"^ocl-edge bake ", bake),
    Rule(r"^ocl-edge ", run_ocl_edge),
    Rule(r"^openssl (genpkey|pkey|pkeyutl) ", run_program),
    Rule(r"^python examples/minimal_loop", run_script),
    Rule(
        r"^python (bench/|scripts/|-m ocl_edge_app\.demo\.)", parse_script, "takes minutes, some need footage"
    ),
    Rule(r"^\.venv/bin/python -m pytest ", find_tests, "would run tests inside a test"),
    Rule(r"^make( |$)", plan_make, "sets up an environment, or runs all tests"),
    Rule(r"^pip install pre-commit$", accept, "needs the network; no part of ours needs it"),
    Rule(r"^pip install ", read_requirements, "needs the network"),
    Rule(r"^pre-commit install$", accept, "changes the clone's hooks"),
    Rule(r"^python3 -m venv --system-site-packages venv$", accept, "makes an environment"),
    Rule(r"^\. venv/bin/activate$", accept, "enters an environment"),
    Rule(r"^scp -r bundle frames robot:$", accept, "needs a robot"),
    Rule(r"^sudo (nvpmodel -q|jetson_clocks)$", accept, "tools of a Jetson"),
)


def _run_as_main(arguments: Words) -> None:
    """As ``python SCRIPT ARGUMENTS`` does, in this process; SCRIPT lies under the repository's root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        patch.syspath_prepend(str((ROOT / arguments[0]).parent))
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")


def _cut_at_pipe(words: Words) -> tuple[Words, Words]:
    if "|" not in words:
        return words, []
    pipe = words.index("|")
    return words[:pipe], words[pipe + 1 :]
