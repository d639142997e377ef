"""Every command and all Python of README, docs/ and the help texts is run, or read by its own parser."""

from __future__ import annotations

import contextlib
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import VERBS, cli
from tests.docs import docs_world
from tests.docs.command_rules import (
    RULES,
    bake,
    check,
    export,
    parse_ocl_edge,
    parse_script,
    plan_make,
    read_requirements,
    run_ocl_edge,
    run_program,
    run_script,
    run_watched,
)
from tests.docs.docs_pages import (
    PAGES,
    ROOT,
    Snippet,
    code_spans,
    commands,
    commands_of,
    mentioned_commands,
    python_blocks,
    read,
)
from tests.doubles import middleware as fake_middleware


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that sandboxes are copied from; see docs_world.py."""
    directory = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        docs_world.furnish(directory)
        export(docs_world.EXPORT.split())
        export(docs_world.EXPORT_OF_TWO.split())
    return directory


@pytest.fixture
def sandbox(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory for the commands of one page, and a cache directory of its own."""
    directory = docs_world.copy_of(world, tmp_path)
    monkeypatch.chdir(directory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(directory)
    yield directory
    sys.modules.pop("net", None)
    torch.set_num_threads(threads)  # --threads of a command is for the whole process


@pytest.fixture
def middleware(monkeypatch: pytest.MonkeyPatch) -> fake_middleware.Delivered:
    """Stand-ins for rclpy and gi, and what was delivered to them."""
    modules, delivered = fake_middleware.install()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return delivered


@contextlib.contextmanager
def named(snippet: Snippet) -> Iterator[None]:
    """Say which command failed, and where it stands."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise AssertionError(str(snippet)) from error


def examples_in_help(verb: str) -> list[Snippet]:
    """The commands after 'Examples:' in a help text; '' is the program's own."""
    command = cli.get_command(click.Context(cli), verb) if verb else cli
    assert command is not None
    _, _, examples = (command.epilog or "").partition("Examples:\n")
    return list(commands_of(examples, f"ocl-edge {verb} --help", 1))


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(page: str, sandbox: Path) -> None:
    for snippet in commands(page):
        with named(snippet):
            check(snippet.text)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_the_examples_of_a_help_text_work(verb: str, sandbox: Path) -> None:
    examples = examples_in_help(verb)
    assert examples
    for snippet in examples:
        with named(snippet):
            check(snippet.text)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, sandbox: Path, middleware: fake_middleware.Delivered) -> None:
    """In order, in one namespace, as a reader would type it; stand-ins must have got every mask."""
    namespace: dict[str, object] = {"__name__": "page"}
    for block in python_blocks(page):
        exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)
        middleware.check(block.text)


def test_the_ros_example_publishes_a_mask_for_every_image(
    sandbox: Path, middleware: fake_middleware.Delivered
) -> None:
    example = ROOT / "examples" / "ros2_node.py"
    runpy.run_path(str(example), run_name="__main__")
    middleware.check(example.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_the_text_mentions_exist(page: str) -> None:
    """Not run: many stand for a family (`ocl-edge profile`). What they name must be there."""
    for snippet in mentioned_commands(page):
        with named(snippet):
            mention(shlex.split(snippet.text))


def mention(words: list[str]) -> None:
    """Verbs and options of a command that may lack its arguments; scripts, make and pip in full."""
    if words[0] == "ocl-edge":
        verb = next(iter(words[1:]), "--help")
        command = cli if verb.startswith("-") else cli.get_command(click.Context(cli), verb)
        assert command is not None, words
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= known, words
    elif words[0] == "make":
        plan_make(words)
    elif words[0] == "pip":
        read_requirements(words)
    else:
        parse_script(words)


def test_the_bundle_page_names_every_file_and_field(sandbox: Path) -> None:
    manifest = Bundle.open("bundle").manifest
    named = set(code_spans(read("docs/bundle-format.md")))
    assert manifest.files.keys() - named == set()
    assert type(manifest).model_fields.keys() - named == set()


def test_a_wrong_command_is_found(sandbox: Path) -> None:
    """The checks themselves: each refuses what is not there."""
    with pytest.raises(AssertionError, match="no rule"):
        check("curl https://example.org")
    with pytest.raises(click.UsageError):
        parse_ocl_edge(["ocl-edge", "run", "bundle", "--sorce", "frames/"])
    with pytest.raises(AssertionError, match="no such verb"):
        parse_ocl_edge(["ocl-edge", "fly", "bundle"])
    with pytest.raises(AssertionError, match="failed"):
        check("ocl-edge run nothing --source frames/")
    with pytest.raises(SystemExit):
        parse_script(["python", "bench/forms.py", "--fast"])
    with pytest.raises(AssertionError):
        read_requirements(["pip", "install", "ocl-edge[wings]"])
    with pytest.raises(Exception, match="make"):
        plan_make(["make", "coffee"])
    with pytest.raises(AssertionError):
        mention(["ocl-edge", "profile", "--sorce"])


RUN = (bake, export, run_ocl_edge, run_program, run_script, run_watched)


def test_what_is_not_run_says_why() -> None:
    for rule in RULES:
        assert bool(rule.why_not_run) == (rule.check not in RUN), rule
