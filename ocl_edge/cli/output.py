"""Tables, progress and JSON. Results go to standard output, the rest to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ocl_edge.errors import OutputError
from ocl_edge.finite import finite

COLUMNS_OF_A_LOG = 100


def console(*, stderr: bool = False) -> Console:
    """A console that wraps at the terminal's width, and never in the middle of a log's line."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else COLUMNS_OF_A_LOG)


def note(message: str) -> None:
    """One line on standard error."""
    console(stderr=True).print(message, markup=False, soft_wrap=True)


@contextmanager
def stage_progress(verb: str) -> Iterator[Callable[[str], None]]:
    """A function to call as each stage of a long job begins: a spinner, or a line each in a log."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda stage: note(f"{verb}: {stage}")
        return
    with screen.status(verb) as status:
        yield lambda stage: status.update(f"{verb}: {stage}")


@contextmanager
def frame_progress(total: int | None) -> Iterator[Callable[[str], None]]:
    """A function to call after each frame with a few words; shows a bar on a terminal, nothing in a log.

    Without a total the bar only moves.
    """
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda _words: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda words: progress.update(task, advance=1, description=words)


def print_rows(title: str, rows: Mapping[str, object]) -> None:
    """A table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    _print(table)


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _print(table)


def emit_json(target: str, content: Mapping[str, Any]) -> None:
    """Write JSON to a file, completely or not at all; ``-`` is standard output.

    Numbers that are not finite become null: JSON has no word for them.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps(finite(content), indent=2, allow_nan=False) + "\n"
    if target == "-":
        with _to_standard_output():
            sys.stdout.write(text)
        return
    path = Path(target)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _print(table: Table) -> None:
    with _to_standard_output():
        console().print(table)


@contextmanager
def _to_standard_output() -> Iterator[None]:
    """Turn a full disk behind standard output into an error; a reader that has gone ends the program."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail again at exit, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(1) from None
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error
