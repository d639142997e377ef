"""Links lead somewhere; the reference pages say what the code says."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest

from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge_app.cli import VERBS, cli
from tests.docs.docs_pages import (
    PAGES,
    ROOT,
    Table,
    anchors,
    code_spans,
    headings,
    links,
    python_blocks,
    read,
    tables,
)

COMMAND_LINE = "docs/command-line.md"
PYTHON_API = "docs/python-api.md"
FOLDERS = ("app", "bench", "docs", "examples", "export", "ocl_edge", "runtime", "scripts", "tests")
OPTIONS_OF_OTHERS = {"--system-site-packages"}
"""Options in the text that are not ours."""


def verb_named(name: str) -> click.Command:
    verb, *rest = name.split()
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    for word in rest:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


PARTS = {"fleet": ("server", "client", "rollback")}
"""Of verbs that have some; written down, for to import every verb while tests are collected is too early."""

COMMANDS = [f"{verb} {part}".strip() for verb in VERBS for part in PARTS.get(verb, ("",))]


def options_of(command: click.Command) -> dict[str, click.Option]:
    """By name; those of the program itself, which stand in the page's introduction, with ``cli`` alone."""
    options = {p.opts[0]: p for p in command.params if isinstance(p, click.Option)}
    return (
        options if command is cli else {name: o for name, o in options.items() if name not in options_of(cli)}
    )


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), f"{page} links to {link}: there is no {target}"
        if anchor:
            known = anchors(str(file.resolve().relative_to(ROOT)))
            assert anchor in known, f"{page} links to {link}: {target or page} has {sorted(known)}"


def test_the_index_lists_every_page() -> None:
    listed = {f"docs/{link.partition('#')[0]}" for link in links("docs/README.md")}
    missing = set(PAGES) - listed - {"README.md", "CONTRIBUTING.md", "docs/README.md"}
    assert not missing, f"add to docs/README.md: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("page", PAGES)
def test_nothing_waits_to_be_filled_in(page: str) -> None:
    """A word in capitals by itself, as in 'It takes RESULT'; or the usual marks."""
    waiting = re.findall(r"(?m)(?:^|[.:] )[A-Z][A-Z_]{3,}$|\bTODO\b|\bTBD\b|\bFIXME\b", read(page))
    assert waiting == []


def test_every_option_in_the_text_exists() -> None:
    known = {option for verb in COMMANDS for option in options_of(verb_named(verb))} | {"--help", "--version"}
    known |= {*options_of(cli), *OPTIONS_OF_OTHERS}
    for page in PAGES:
        spans = [span for span in code_spans(read(page)) if not span.startswith(("python ", "pip ", "make "))]
        named = {option for span in spans for option in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", span)}
        assert named <= known, f"{page}: no such option: {', '.join(sorted(named - known))}"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_and_module_in_the_text_exists(page: str) -> None:
    """A file that moves takes the pages along. NAME stands for one that is still to be written."""
    spans = [span for span in code_spans(read(page)) if "NAME" not in span]
    paths = [span for span in spans if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*", span)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for name in (span for span in spans if re.fullmatch(r"ocl_edge(?:_\w+)?(?:\.\w+)+", span)):
        assert pkgutil.resolve_name(name), name


@pytest.mark.parametrize("verb", VERBS)
def test_the_parts_of_a_verb_are_known(verb: str) -> None:
    assert tuple(getattr(verb_named(verb), "commands", ())) == PARTS.get(verb, ())


def test_every_verb_is_in_the_reference() -> None:
    verbs = [f"`ocl-edge {verb}`" for verb in COMMANDS]
    assert [heading for heading in headings(COMMAND_LINE) if heading.startswith("`ocl-edge")] == verbs
    named = {word for span in code_spans(read(COMMAND_LINE)) for word in span.split()}
    assert options_of(cli).keys() <= named


def rows_of_verb(verb: str) -> dict[str, list[str]]:
    """Option -> default in code spans: its own table and what it shares with others."""
    (own,) = (t for t in tables(COMMAND_LINE) if t.heading == f"`ocl-edge {verb}`")
    (shared,) = (t for t in tables(COMMAND_LINE) if t.heading == "Options that several verbs share")
    rows = {row[0]: code_spans(row[1]) for row in own.rows}
    rows |= {row[0]: [] for row in shared.rows if verb in code_spans(row[1])}
    return {code_spans(option)[0].split()[0]: default for option, default in rows.items()}


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_reference_has_every_option_with_its_default(verb: str) -> None:
    written = rows_of_verb(verb)
    options = options_of(verb_named(verb))
    missing, unknown = options.keys() - written.keys(), written.keys() - options.keys()
    assert not missing, f"add to {COMMAND_LINE}, {verb}: {', '.join(sorted(missing))}"
    assert not unknown, f"{COMMAND_LINE}, {verb}: there is no {', '.join(sorted(unknown))}"
    for name, option in options.items():
        assert written[name] == default_of(option), f"{COMMAND_LINE}, {verb} {name}"


def default_of(option: click.Option) -> list[str]:
    """As the reference writes it: nothing where there is none."""
    default = option.to_info_dict()["default"]
    return [] if option.is_flag or option.multiple or default is None else [str(default)]


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_has_a_help_text(verb: str) -> None:
    assert [name for name, option in options_of(verb_named(verb)).items() if not option.help] == []


def imported_by_the_page() -> dict[str, Any]:
    """The names that the Python of the API page imports from our packages, and `ocl_edge` itself."""
    imports = [
        node
        for block in python_blocks(PYTHON_API)
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ocl_edge")
    ]
    namespace: dict[str, Any] = {}
    exec("import ocl_edge", namespace)
    for node in imports:
        exec(ast.unparse(node), namespace)
    return namespace


API = imported_by_the_page()


def named_in_headings() -> Iterator[tuple[str, str | None]]:
    """Dotted name, and the parameters in parentheses; None for a class that is described by a table."""
    for heading in headings(PYTHON_API):
        for span in code_spans(heading):
            name, bracket, parameters = span.partition("(")
            yield name, parameters.removesuffix(")") if bracket else None


@pytest.mark.parametrize(("name", "parameters"), [n for n in named_in_headings() if n[1] is not None])
def test_functions_have_the_signature_that_the_page_gives(name: str, parameters: str) -> None:
    found = eval(name, dict(API))
    signature = inspect.signature(found)
    actual = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "self"]
    assert str(inspect.Signature(actual)) == f"({parameters})"
    assert found.__doc__


@pytest.mark.parametrize("name", [n for n, parameters in named_in_headings() if parameters is None])
def test_tables_have_every_field_with_its_default(name: str) -> None:
    (table,) = (t for t in tables(PYTHON_API) if t.heading == f"`{name}`")
    fields = dataclasses.fields(API[name])
    assert [code_spans(row[0])[0] for row in table.rows] == [field.name for field in fields]
    for row, field in zip(table.rows, fields, strict=True):
        written = code_spans(row[1])
        if written:
            assert eval(written[0], dict(API)) == value_of(field), field.name
        else:
            assert value_of(field) is dataclasses.MISSING, field.name


@pytest.mark.parametrize("name", ["prior", "lr", "restoration"])
def test_the_defaults_of_a_bundle_are_told(name: str) -> None:
    default = getattr(AdaptationDefaults(), name)
    (row,) = (
        r for t in tables(PYTHON_API) if t.heading == "`SessionOptions`" for r in t.rows if name in r[0]
    )
    assert f"Bundle: `{default}`" in row[2]
    on_command_line = ":".join(f"{v:g}" for v in default) if isinstance(default, tuple) else f"{default:g}"
    (table,) = (t for t in tables(COMMAND_LINE) if t.heading == "`ocl-edge run`")
    (row,) = (r for r in table.rows if r[0].startswith(f"`--{name}"))
    assert code_spans(row[2]) == [on_command_line]


def value_of(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def test_every_error_of_the_api_page_is_one() -> None:
    from ocl_edge import errors

    table = errors_table()
    named = {name for row in table.rows for name in code_spans(row[0])}
    every = {n for n, kind in vars(errors).items() if isinstance(kind, type)}
    assert named == every - {"OclEdgeError"}


def errors_table() -> Table:
    return next(t for t in tables(PYTHON_API) if t.heading == "Errors")
