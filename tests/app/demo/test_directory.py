"""Where a demo is written."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from ocl_edge.errors import OutputError, UsageError
from ocl_edge_app.demo.directory import ENTRIES, MADE_BY, MARKER, demo_directory


def write_demo(out: Path, words: str, force: bool = False, video: str = "video.mp4") -> None:
    with demo_directory(out, force) as directory:
        (directory / "masks").mkdir()
        (directory / "masks" / f"{words}.png").write_text(words)
        (directory / video).write_text(words)
        (directory / MARKER).write_text(json.dumps({"made_by": MADE_BY, "words": words}))


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_a_demo_appears_complete(tmp_path: Path) -> None:
    out = tmp_path / "new" / "demo"
    write_demo(out, "first")
    assert names(out) == ["demo.json", "masks", "video.mp4"]


def test_an_earlier_demo_is_replaced_and_files_beside_it_stay(tmp_path: Path) -> None:
    write_demo(tmp_path, "first")
    (tmp_path / "mine.txt").write_text("mine")
    write_demo(tmp_path, "second", video="video.webp")
    assert names(tmp_path) == ["demo.json", "masks", "mine.txt", "video.webp"]
    assert names(tmp_path / "masks") == ["second.png"]
    assert json.loads((tmp_path / MARKER).read_text("utf-8"))["words"] == "second"


def test_files_of_others_are_refused_and_force_writes_beside_them(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"not empty \(mine.txt\).*--force"):
        write_demo(tmp_path, "first")
    assert names(tmp_path) == ["mine.txt"]
    write_demo(tmp_path, "first", force=True)
    assert names(tmp_path) == ["demo.json", "masks", "mine.txt", "video.mp4"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_force_replaces_nothing_that_no_demo_made(tmp_path: Path, entry: str) -> None:
    (tmp_path / entry).write_text('{"made_by": "someone"}')
    with pytest.raises(UsageError, match=f"{entry}, which no demo made"):
        write_demo(tmp_path, "first", force=True)
    assert (tmp_path / entry).read_text("utf-8") == '{"made_by": "someone"}'


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        write_demo(tmp_path / "file", "first", force=True)
    with pytest.raises(OutputError, match="cannot write"):
        write_demo(tmp_path / "file" / "demo", "first")


def test_a_place_where_nobody_may_write_is_an_error() -> None:
    with pytest.raises(OutputError, match="cannot write /sys/ocl-edge-demo: "):
        write_demo(Path("/sys/ocl-edge-demo"), "first")


def fail(out: Path, error: BaseException) -> None:
    with demo_directory(out, False) as directory:
        (directory / "video.webp").write_text("half")
        raise error


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="demo: No space left on device; nothing new was left there"):
        fail(tmp_path / "demo", OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "demo", KeyboardInterrupt())
    assert names(tmp_path) == []


def test_a_demo_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    write_demo(tmp_path, "first")
    with pytest.raises(OutputError):
        fail(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == ["demo.json", "masks", "video.mp4"]
    assert names(tmp_path / "masks") == ["first.png"]


def test_what_a_killed_demo_left_is_cleared(tmp_path: Path) -> None:
    partial = tmp_path / ".partial"
    partial.mkdir()
    (partial / "video.webp").write_text("half")
    write_demo(tmp_path, "first")
    assert names(tmp_path) == ["demo.json", "masks", "video.mp4"]
