from __future__ import annotations

import errno
import json
import math
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ocl_edge import durable
from ocl_edge.errors import OutputError


@pytest.mark.parametrize("flushed", [True, False])
def test_the_target_is_old_until_the_block_ends_and_new_after_it(tmp_path: Path, flushed: bool) -> None:
    target = tmp_path / "result"
    target.write_bytes(b"old")
    with durable.writing(target, flushed) as file:
        file.write(b"new, ")
        assert target.read_bytes() == b"old"
        file.write(b"longer")
    assert target.read_bytes() == b"new, longer"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        durable.write_text(tmp_path / "result", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result").stat().st_mode) == 0o640


def test_the_content_is_flushed_before_the_name_and_the_directory_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(descriptor: int) -> None:
        order.append("flush directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "flush file")
        fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        assert self.read_bytes() == b"content"
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    durable.write_bytes(tmp_path / "result", b"content")
    assert order == ["flush file", "rename", "flush directory"]
    order.clear()
    durable.write_bytes(tmp_path / "result", b"content", durable=False)
    assert order == ["rename"]
    (tmp_path / "built").write_bytes(b"content")
    order.clear()
    durable.move_file(tmp_path / "built", tmp_path / "result")
    assert order == ["flush file", "rename", "flush directory"]


def test_a_block_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    def fail() -> None:
        with durable.writing(tmp_path / "result") as file:
            file.write(b"half")
            raise ValueError("no more")

    (tmp_path / "result").write_bytes(b"old")
    with pytest.raises(ValueError, match="no more"):
        fail()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("result", b"old")]


@pytest.mark.parametrize("flushed", [True, False])
def test_a_full_disk_is_named_and_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, flushed: bool
) -> None:
    code = f"""
import resource
from pathlib import Path
from ocl_edge import durable
from ocl_edge.errors import OutputError
target = Path({str(tmp_path / "result")!r})
durable.write_bytes(target, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    durable.write_bytes(target, b"new" * 1000, {flushed})
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {tmp_path / 'result'}: File too large\n"
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("result", b"old")]


def test_a_killed_write_leaves_the_old_content_and_the_next_write_removes_the_rest(tmp_path: Path) -> None:
    target = tmp_path / "result"
    code = f"""
import os, signal
from pathlib import Path
from ocl_edge import durable
target = Path({str(target)!r})
durable.write_bytes(target, b"old")
with durable.writing(target) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    left = [file for file in tmp_path.iterdir() if file != target]
    assert [file.read_bytes() for file in left] == [b"half"]
    assert target.read_bytes() == b"old"
    durable.write_bytes(tmp_path / "other", b"of another name")
    assert left[0].exists()
    durable.write_bytes(target, b"new")
    assert not left[0].exists()
    assert target.read_bytes() == b"new"


def test_the_partial_file_of_a_writer_at_work_is_left_alone(tmp_path: Path) -> None:
    with durable.writing(tmp_path / "result") as slow:
        slow.write(b"last")
        durable.write_bytes(tmp_path / "result", b"first")
        assert (tmp_path / "result").read_bytes() == b"first"
    assert (tmp_path / "result").read_bytes() == b"last"


def test_a_pipe_or_a_link_among_the_leftovers_stops_no_write(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"years")
    os.mkfifo(tmp_path / ".result.1.partial")
    (tmp_path / ".result.2.partial").symlink_to(precious)
    durable.write_bytes(tmp_path / "result", b"new")
    assert (tmp_path / "result").read_bytes() == b"new"
    assert precious.read_bytes() == b"years"


def test_a_link_at_the_target_is_replaced_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"years")
    (tmp_path / "result").symlink_to(tmp_path / "precious")
    durable.write_bytes(tmp_path / "result", b"new")
    assert not (tmp_path / "result").is_symlink()
    assert (tmp_path / "result").read_bytes() == b"new"
    assert (tmp_path / "precious").read_bytes() == b"years"


def test_a_partial_name_that_is_taken_is_never_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _bytes: "guessed")
    (tmp_path / "precious").write_bytes(b"years")
    (tmp_path / ".result.guessed.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="result: File exists"):
        durable.write_bytes(tmp_path / "result", b"new")
    assert (tmp_path / "precious").read_bytes() == b"years"


@pytest.mark.parametrize("flushed", [True, False])
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, flushed: bool) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*nowhere/result: No such file or directory"):
        durable.write_bytes(tmp_path / "nowhere" / "result", b"", flushed)
    with pytest.raises(OutputError, match="cannot write /sys/result: "):
        durable.write_bytes(Path("/sys/result"), b"", flushed)
    (tmp_path / "result").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        durable.write_bytes(tmp_path / "result", b"", flushed)
    assert [file.name for file in tmp_path.iterdir()] == ["result"]


def test_a_file_system_without_locks_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / ".result.1.partial").write_bytes(b"perhaps of a writer at work")
    durable.write_bytes(tmp_path / "result", b"new")
    assert (tmp_path / "result").read_bytes() == b"new"
    assert (tmp_path / ".result.1.partial").exists()


def test_json_says_null_where_a_number_is_not_finite(tmp_path: Path) -> None:
    durable.write_json(tmp_path / "result.json", {"loss": math.nan, "miou": [0.5, math.inf]})
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"loss": None, "miou": [0.5, None]}
    assert text.endswith("}\n")
