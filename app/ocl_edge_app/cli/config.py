"""``--config FILE.toml`` and ``--print-config``: the options of a command in a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ocl_edge.errors import UsageError
from ocl_edge.given_files import read_given
from ocl_edge.plain_text import without_secrets_of
from ocl_edge_app.cli.options import SOURCE_OPTION, harmless

MOST_BYTES = 1 << 20
MOST_BITS = 64
NUMBER = re.compile(r"(0|-?[1-9]\d{0,15})(\.\d+)?")
NOT_IN_A_FILE = ("config", "print_config", "debug", "help")


class ConfiguredCommand(click.Command):
    """A command whose options may stand in a TOML file, under their names; the command line wins.

    ``--print-config`` prints all of them as such a file, and nothing runs.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.params += [
            click.Option(
                ["--config"],
                type=click.Path(path_type=Path),
                metavar="FILE.toml",
                expose_value=False,
                help="Take options from this file, e.g. norm-every = 4; the command line wins.",
            ),
            click.Option(
                ["--print-config"],
                is_flag=True,
                expose_value=False,
                help="Print all options as such a file, and run nothing.",
            ),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        if given.get("config") is not None:
            ctx.default_map = self.read(Path(given["config"]))
        if given.get("print_config"):
            click.echo(self.as_toml(ctx, given), nl=False)
            ctx.exit()
        return super().parse_args(ctx, args)

    def read(self, file: Path) -> dict[str, Any]:
        """The options of a file, by the names of the command's parameters, as the command line has them.

        Raises:
            UsageError: unreadable, no TOML, an option that the command lacks, or a value of another kind.
        """
        known = {name_in_a_file(p): p for p in self.params if p.name not in NOT_IN_A_FILE}
        found: dict[str, Any] = {}
        for name, value in read_toml(file).items():
            parameter = known.get(name.replace("_", "-"))
            if parameter is None:
                near = get_close_matches(name, known, 1)
                raise UsageError(f"{file}: unknown option {name!r}" + (f"; {near[0]}?" if near else ""))
            assert parameter.name is not None
            found[parameter.name] = as_typed(parameter, value, file)
        return found

    def as_toml(self, ctx: click.Context, given: Mapping[str, Any]) -> str:
        """Every option that has a value: as given, from the file, or by default; secrets are left out."""
        lines = []
        for parameter in self.params:
            if parameter.name in NOT_IN_A_FILE:
                continue
            value, source = parameter.consume_value(ctx, given)
            if not isinstance(value, str | int | float | Path | tuple | list) or value in ((), []):
                continue  # has none: click says so in one way or another, by its version
            if f"--{name_in_a_file(parameter)}" == SOURCE_OPTION and isinstance(value, tuple | list):
                value = [harmless(str(setting)) for setting in value]
            told = "  # default" if source is ParameterSource.DEFAULT else ""
            lines.append(f"{name_in_a_file(parameter)} = {_literal(value)}{told}\n")
        return "".join(lines)


def name_in_a_file(parameter: click.Parameter) -> str:
    """Of an option its longest flag without dashes, of an argument its name."""
    flags = [flag for flag in parameter.opts if flag.startswith("--")]
    return max(flags, key=len)[2:] if flags else str(parameter.name)


def read_toml(file: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        UsageError: unreadable, or no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]
    try:
        content = read_given(file, MOST_BYTES)
        options: dict[str, Any] = tomllib.loads(content.decode())
        return options
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        raise UsageError(f"{file} is no TOML: {error}") from error


def as_typed(parameter: click.Parameter, value: Any, file: Path) -> Any:
    """A value as its text on the command line would be: flags are true or false, repeatable options lists."""
    name = name_in_a_file(parameter)
    if isinstance(parameter, click.Option) and parameter.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{file}: {name} is true or false, got {value!r}")
        return value
    if getattr(parameter, "multiple", False):
        values = value if isinstance(value, list) else [value]
        return [_text(item, name, file) for item in values]
    return _text(value, name, file)


def _text(value: Any, name: str, file: Path) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{file}: {name} takes a text or a number, got {value!r}")
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise UsageError(f"{file}: {name} has {value.bit_length()} bits, at most {MOST_BITS} are read")
    return str(value)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, int | float):
        return str(value)
    text = without_secrets_of(str(value))
    if NUMBER.fullmatch(text):
        return text
    escaped = "".join(f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08X}" for c in text)
    return f'"{escaped}"'
