"""Where a demo is written: complete, or not at all, and never over someone else's files."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from ocl_edge.errors import OutputError, UsageError

MARKER = "demo.json"
ENTRIES = (
    MARKER,
    "report.html",
    "video.mp4",
    "video.webp",
    "poster.png",
    "bundle",
    "frames",
    "labels",
    "masks",
)
"""What a demo may leave in its directory; nothing else there is ever touched."""
MADE_BY = "ocl-edge demo"
_PARTIAL = ".partial"


@contextlib.contextmanager
def demo_directory(out: Path, force: bool) -> Iterator[Path]:
    """A directory inside ``out`` to write a demo into.

    If the block succeeds its entries move up and replace those of an earlier demo; if it
    does not, it vanishes. What a killed demo left is cleared first.

    Args:
        out: made if it is not there.
        force: write also where other files lie, beside them.

    Raises:
        UsageError: ``out`` is a file, or holds files of others.
        OutputError: it cannot be written (permission, full disk).
    """
    partial = out / _PARTIAL
    made = not out.exists()
    try:
        _refuse_files_of_others(out, force)
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        yield partial
        _move_up(partial, out)
    except OSError as error:
        raise OutputError(
            f"cannot write {out}: {error.strerror or error}; nothing new was left there"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                out.rmdir()  # fails where the demo succeeded, and should


def _refuse_files_of_others(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"--out {out} is a file; name a directory")
    names = sorted(entry.name for entry in out.iterdir() if entry.name != _PARTIAL)
    if not names or _is_a_demo(out):
        return
    if not force:
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise UsageError(
            f"{out} is not empty ({some}); choose another --out, or write beside these files with --force"
        )
    if taken := [name for name in names if name in ENTRIES]:
        raise UsageError(
            f"{out} holds {', '.join(taken)}, which no demo made and --force does not replace; "
            "choose another --out"
        )


def _is_a_demo(directory: Path) -> bool:
    try:
        content = json.loads((directory / MARKER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == MADE_BY


def _move_up(partial: Path, out: Path) -> None:
    """The marker first: whatever stops this, the next demo knows the directory as its own."""
    for name in ENTRIES:
        place = out / name
        if name != MARKER:
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        if (partial / name).exists():
            (partial / name).replace(place)
