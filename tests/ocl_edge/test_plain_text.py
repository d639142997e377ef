from __future__ import annotations

import pytest

from ocl_edge.plain_text import LONGEST_SHOWN, plain, plain_lines, without_secrets, without_secrets_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("title\x07\x9b2J\x7f", "title\\x07\\x9b2J\\x7f"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),  # the direction of writing
        ("a\u2066b\u2069\u200b", "a\\u2066b\\u2069\\u200b"),
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("caf\udce9.png", "caf\\xe9.png"),  # a byte of a name that is not UTF-8
        ("\U000e0041", "\\U000e0041"),
        ("straße 街 ok", "straße 街 ok"),
    ],
)
def test_what_cannot_be_seen_is_written_as_its_escape(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert shown.isprintable()


def test_a_line_of_a_stranger_never_passes_for_one_of_ours() -> None:
    assert plain_lines("first\nerror: forged\n  ours") == "first\n  error: forged\n  ours"


def test_a_message_has_an_end() -> None:
    assert len(plain("x" * 10_000_000)) < LONGEST_SHOWN + 50
    assert plain("x" * 10_000_000).endswith("(9,996,000 characters more)")
    assert len(plain("x" * 10_000, longest=None)) == 10_000


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://camera:554/front", "rtsp://camera:554/front"),
        ("rtsp://[fe80::1]:554/front", "rtsp://[fe80::1]:554/front"),
        ("rtsp://me:hunter2@camera/front", "rtsp://***@camera/front"),
        ("rtsp://me:hunt/er2@camera/front", "rtsp://***@camera/front"),
        ("rtsp://me:hunt@er2@camera/front", "rtsp://***@camera/front"),
        ("rtsp://me:hunter2", "rtsp://***"),  # the host was forgotten
        ("rtsp:/me:hunter2@camera/front", "rtsp:/***@camera/front"),  # by way of pathlib
        ("http://camera/x?user=me&password=hunter2", "http://camera/x?***"),
        ("http://camera/x#hunter2", "http://camera/x#***"),
        ("srt://camera:9?passphrase=hunter2hunter2", "srt://camera:9?***"),
        ("rtsp://camera/user=me&password=hunter2&channel=1", "rtsp://camera/user=***"),
        ("rtmp://live/app/live_123456_hunter2abc", "rtmp://live/app/***"),
        ("RTSP://ME:hunter2@CAMERA/X", "RTSP://***@CAMERA/X"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets_of(url) == shown
    assert without_secrets(f"cannot open {url}, '{url}': no") == f"cannot open {shown}, '{shown}': no"
    assert "hunter2" not in plain(f"cannot open {url}")


def test_a_password_with_a_space_or_a_quote_is_one() -> None:
    assert without_secrets_of("rtsp://me:hun ter2'@camera/x") == "rtsp://***@camera/x"


def test_paths_are_no_urls() -> None:
    for path in ("drive/a@b.mp4", "masks:/tmp/a_directory_with_a_long_name/x", "/data/x=1/y?.png"):
        assert without_secrets(path) == without_secrets_of(path) == path
