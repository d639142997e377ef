"""Tables, progress and JSON. Results go to standard output, the rest to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ocl_edge import durable
from ocl_edge.errors import OutputError
from ocl_edge.plain_text import plain, plain_lines
from ocl_edge_app.cli.options import is_quiet

COLUMNS_OF_A_LOG = 80


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is, and writes no control character where there is no terminal."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        force_terminal=terminal,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if terminal else COLUMNS_OF_A_LOG,
    )


def note(message: str) -> None:
    """One line on standard error; nothing with --quiet, as all of this module but errors and JSON."""
    if is_quiet():
        return
    console(stderr=True).print(plain_lines(message), soft_wrap=True)


@contextmanager
def stage_progress(verb: str) -> Iterator[Callable[[str], None]]:
    """A function to call as each stage of a long job begins: a spinner, or a line each in a log."""
    screen = console(stderr=True)
    if is_quiet() or not screen.is_terminal:
        yield lambda stage: note(f"{verb}: {stage}")
        return
    with screen.status(verb) as status:
        yield lambda stage: status.update(plain(f"{verb}: {stage}"))


@contextmanager
def frame_progress(total: int | None) -> Iterator[Callable[[str], None]]:
    """A function to call after each frame with a few words; shows a bar on a terminal, nothing in a log.

    Without a total the bar only moves.
    """
    screen = console(stderr=True)
    if is_quiet() or not screen.is_terminal:
        yield lambda _words: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda words: progress.update(task, advance=1, description=plain(words))


def print_rows(title: str, rows: Mapping[str, object]) -> None:
    """A table of names and values."""
    table = Table(title=plain(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(plain(name), plain(str(value)))
    _print(table)


def print_words(*sentences: str) -> None:
    """Sentences as one paragraph."""
    _print(plain(" ".join(sentences)))


def print_table(
    title: str, header: list[str], rows: list[list[str]], text_columns: Collection[int] = (0,)
) -> None:
    """A table of text, which is folded where the screen is narrow, and of numbers, which never are."""
    table = Table(title=plain(title), title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(header):
        is_text = index in text_columns
        table.add_column(
            plain(name), justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text
        )
    for row in rows:
        table.add_row(*map(plain, row))
    _print(table)


def emit_json(target: str, content: Mapping[str, Any]) -> None:
    """Write JSON to a file; ``-`` is standard output. Numbers that are not finite become null.

    Raises:
        OutputError: it cannot be written.
    """
    if target == "-":
        with _to_standard_output():
            sys.stdout.write(durable.json_text(content, indent=2))
    else:
        durable.write_json(Path(target), content, indent=2)


def _print(content: Table | str) -> None:
    if is_quiet():
        return
    with _to_standard_output():
        console().print(content)


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
