"""The file of ``ocl-edge sweep``: bundles, streams, and options of ``ocl-edge evaluate``, a list for a grid.

methods = ["frozen", "norm", "ocl-head"]
corruption = ["clean", "fog:3"]
lr = [0.02, 0.05]

[bundles]
large = "large.ocl"
small = "small.ocl"

[streams.dusk]
frames = "dusk/images"
labels = "dusk/labels"
label-map = { large = "maps/large.json", small = "maps/small.json" }
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from ocl_edge.errors import UsageError
from ocl_edge_app.cli.config import as_typed, name_in_a_file, read_toml
from ocl_edge_app.cli.evaluate import evaluate, taken_apart
from ocl_edge_app.evaluation.plan import Asked
from ocl_edge_app.evaluation.what_is_scored import Named

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
WITH_COMMAS = ("methods", "seeds")
"""Options that are lists by themselves."""

MOST_POINTS = 1_000

OPTIONS = {parameter.name: parameter for parameter in evaluate.params}
OF_FRAMES = {name_in_a_file(OPTIONS[each.name]): OPTIONS[each.name] for each in fields(Named)}
OF_METHODS = {
    name_in_a_file(OPTIONS[each.name]): OPTIONS[each.name] for each in fields(Asked) if each.name != "threads"
}
"""Threads are the machine's, and given where the command runs."""


@dataclass(frozen=True)
class Entry:
    """A bundle on a stream.

    Attributes:
        bundle: its name in the file.
        path: of the bundle.
        stream: its name in the file.
        named: the frames.
        points: what is compared on them, by the point of the grid in words; empty words where there is none.
    """

    bundle: str
    path: Path
    stream: str
    named: Named
    points: dict[str, Asked]


def read_sweep(file: Path, threads: int | None) -> list[Entry]:
    """Every bundle on every stream.

    Args:
        file: its paths are from where the command runs, as in ``--config``.
        threads: of one operator.

    Raises:
        UsageError: unreadable, or a key that is missing, unknown or of another kind; it is named.
    """
    content = read_toml(file)
    bundles = _table(content.pop("bundles", None), f'{file}: [bundles] holds NAME = "PATH" for each bundle')
    streams = _table(
        content.pop("streams", None), f"{file}: a [streams.NAME] says where frames and labels are"
    )
    for name in (*bundles, *streams):
        if not NAME.fullmatch(name):
            raise UsageError(f"{file}: {name!r} names results: expected up to 64 letters, digits, - and _")
    points = dict(_points(content, file))
    return [
        _entry(file, bundle, path, stream, _of_bundle(file, stream, told, bundle, bundles), points, threads)
        for bundle, path in bundles.items()
        for stream, told in streams.items()
    ]


def _points(content: Mapping[str, Any], file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The options of every point of the grid, by the point in words."""
    fixed: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    for written, value in content.items():
        name = written.replace("_", "-")
        parameter = _known(name, OF_METHODS, str(file))
        if isinstance(value, list) and not value:
            raise UsageError(f"{file}: {name} is an empty list")
        if isinstance(value, list) and not parameter.multiple and name not in WITH_COMMAS:
            grid[name] = value
        else:
            fixed[name] = (
                ",".join(map(str, value)) if isinstance(value, list) and name in WITH_COMMAS else value
            )
    if (found := math.prod(map(len, grid.values()))) > MOST_POINTS:
        raise UsageError(
            f"{file}: the grid of {', '.join(grid)} has {found:,} points, at most {MOST_POINTS:,}"
        )
    for chosen in itertools.product(*grid.values()):
        point = dict(zip(grid, chosen, strict=True))
        yield ", ".join(f"{name} {value}" for name, value in point.items()), fixed | point


def _of_bundle(file: Path, stream: str, told: Any, bundle: str, bundles: Mapping[str, Any]) -> dict[str, Any]:
    """A stream's options for one bundle: a value may be a table of the bundles'."""
    where = f"{file}: streams.{stream}"
    options = {}
    for written, value in _table(told, f"{where} is a table").items():
        name = written.replace("_", "-")
        _known(name, OF_FRAMES, where)
        if isinstance(value, dict):
            if unknown := value.keys() - bundles.keys():
                raise UsageError(
                    f"{where}.{name} is for a bundle {min(unknown)!r}; [bundles] has: {', '.join(bundles)}"
                )
            if bundle not in value:
                continue
            value = value[bundle]
        options[name] = value
    return options


def _entry(
    file: Path,
    bundle: str,
    path: Any,
    stream: str,
    told: dict[str, Any],
    points: dict[str, dict[str, Any]],
    threads: int | None,
) -> Entry:
    if not isinstance(path, str):
        raise UsageError(f"{file}: bundles.{bundle} is the path of a bundle, got {path!r}")
    read = {words: _asked(file, stream, {**options, **told}) for words, options in points.items()}
    named = next(iter(read.values()))[0]
    asked = {words: replace(of_point, threads=threads) for words, (_, of_point) in read.items()}
    return Entry(bundle, Path(path), stream, named, asked)


def _asked(file: Path, stream: str, options: Mapping[str, Any]) -> tuple[Named, Asked]:
    """As ``ocl-edge evaluate`` itself reads these options."""
    known = OF_FRAMES | OF_METHODS
    values = {str(known[name].name): as_typed(known[name], value, file) for name, value in options.items()}
    try:
        return taken_apart(evaluate.make_context("evaluate", ["bundle"], default_map=values).params)
    except click.ClickException as error:
        raise UsageError(f"{file}, stream {stream}: {error.format_message()}") from error


def _known(name: str, options: Mapping[str, click.Parameter], where: str) -> click.Parameter:
    if name in options:
        return options[name]
    if name in OF_FRAMES:
        raise UsageError(f"{where}: {name} is of one stream: write it under [streams.NAME]")
    if name in OF_METHODS:
        raise UsageError(f"{where}: {name} is of all streams: write it above [bundles]")
    near = get_close_matches(name, options, 1)
    raise UsageError(
        f"{where}: unknown key {name!r}" + (f"; {near[0]}?" if near else f"; known: {', '.join(options)}")
    )


def _table(value: Any, expected: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise UsageError(f"{expected}, got {'nothing' if value in (None, {}) else repr(value)}")
    return value
