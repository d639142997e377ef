from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocl_edge.given_files import open_given, parse_json, read_given, read_json


def test_pipes_devices_and_directories_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/dev/zero", tmp_path / "zero")
    for path, kind in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "zero", "a device"),
        (tmp_path, "a directory"),
    ):
        with pytest.raises(OSError, match=f"it is {kind}, expected a file"):
            open_given(path)
    with pytest.raises(FileNotFoundError):
        open_given(tmp_path / "none")


def test_a_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_given(tmp_path / "x", 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, at most 4 are read"):
        read_given(tmp_path / "x", 4)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)  # nothing of it is read
    with pytest.raises(OSError, match="1,000,000,000,000 bytes"):
        read_given(tmp_path / "sparse", 1 << 20)


def test_files_of_proc_that_claim_no_size_have_an_end() -> None:
    with pytest.raises(OSError, match="at most 10 are read"):
        read_given(Path("/proc/cpuinfo"), 10)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested deeper than 100"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, "nested deeper than 100"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": -Infinity}', "-Infinity is no number of JSON"),
        ('{"a": 1e999}', "1e999 is beyond what a float holds"),
        ('{"a": ' + "9" * 5000 + "}", "a whole number has 5000 digits"),
        ("", "Expecting value"),
        ("\udcff", "codec can't decode"),
    ],
)
def test_json_that_would_hurt_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=reason):
        read_json(tmp_path / "x.json", 1 << 20)


def test_json_as_we_write_it_is_read() -> None:
    nested = "[" * 100 + "]" * 100
    assert parse_json(b'{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
    assert parse_json(nested.encode()) is not None
    assert parse_json(b'"' + b"[" * 90 + b'"') == "[" * 90
