"""Words of strangers as text that can be shown: in a terminal, a log, a page.

Names, keys, metadata and messages of files, frames and devices may hold escape sequences that move a
cursor, marks that turn the direction of writing, line ends that forge a line of their own; a URL may hold a
password. What shows text passes it through `plain` or `plain_lines`; JSON is data and escapes on its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST_SHOWN = 4000
"""Characters of one message; a tensor's name may have a million."""

LONGEST_VALUE = 100

HIDDEN = "***"
LONGEST_SEGMENT = 15
"""Of a URL's path. Longer ones may be the key of a stream."""

# One slash, too: pathlib makes rtsp:/camera of rtsp://camera.
# A password may hold slashes, so that the last @ counts.
_STREAMS = "rtsps?|rtmp[a-z]*|https?|srt|udp|tcp|tls|rtp|rist|mmsh?"
_SCHEME = rf"(?P<scheme>(?:[A-Za-z][A-Za-z0-9+.-]*://|\b(?:{_STREAMS}):/)/*)"
_URL = re.compile(rf"{_SCHEME}(?P<user>[^\s'\"<>]*@)?(?P<rest>[^\s'\"<>]*)", re.IGNORECASE)
_WHOLE_URL = re.compile(rf"{_SCHEME}(?P<user>.*@)?(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_PIPELINE = "gst:"
_SECRET_PROPERTY = re.compile(
    r"([\w-]*(?:user|pw|pass|key|token|secret|cookie)[\w-]*\s*=\s*)(\"[^\"]*\"|'[^']*'|\S+)", re.IGNORECASE
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:=\[\]]*)(:\d{1,5})?")
_AFTER_A_URL = ":,.;)"


def plain(text: str, longest: int | None = LONGEST_SHOWN) -> str:
    """The text as one line: what cannot be seen is written as its escape, URLs are without their secrets.

    Args:
        text: of whatever origin.
        longest: what is longer is cut off, with a word; None: nothing is.
    """
    return _shortened(_visible(without_secrets(text)), longest)


def plain_lines(text: str, longest: int | None = LONGEST_SHOWN) -> str:
    """As `plain`, with its line ends kept; later lines are indented, so that none passes for a first one."""
    first, *later = without_secrets(text).split("\n")
    lines = [first, *(line if line.startswith(" ") or not line else f"  {line}" for line in later)]
    return _shortened("\n".join(map(_visible, lines)), longest)


def without_secrets(text: str) -> str:
    """The text with every URL reduced to what may be shown: scheme, host, port, and a path without values.

    User and password, the values of the query, the fragment, whatever follows a ``=``, and long segments of
    the path are replaced by ``***``.
    """
    return _URL.sub(_may_be_shown, text) if ":/" in text else text


def without_secrets_of(location: str) -> str:
    """A path, or a URL as `without_secrets` leaves it; for text that is one of them from end to end.

    Of a pipeline of GStreamer (``gst:``) the URLs likewise, and the properties that name a user or a secret.
    """
    if location.startswith(_PIPELINE):
        return _SECRET_PROPERTY.sub(rf"\1{HIDDEN}", without_secrets(location))
    url = _WHOLE_URL.fullmatch(location)
    return _may_be_shown(url) if url else location


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, in words: field, what was expected, what was found."""
    problem = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    found = repr(problem["input"])
    if len(found) > LONGEST_VALUE:
        found = f"{found[:LONGEST_VALUE]}..."
    said = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {said}, got {found}" if where else said


def _visible(text: str) -> str:
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shortened(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    return f"{text[:longest]}... ({len(text) - longest:,} characters more)"


def _may_be_shown(url: re.Match[str]) -> str:
    user = f"{HIDDEN}@" if url["user"] else ""
    rest = url["rest"].rstrip(_AFTER_A_URL)
    address, mark, _ = re.split(r"([?#]|$)", rest, maxsplit=1)
    host, *segments = address.split("/")
    shown = host if _HOST.fullmatch(host) else HIDDEN
    path = "".join(f"/{_segment(segment)}" for segment in segments)
    after = url["rest"][len(rest) :]
    return f"{url['scheme']}{user}{shown}{path}{mark and mark + HIDDEN}{after}"


def _segment(segment: str) -> str:
    name, equals, _ = segment.partition("=")
    if equals:
        return f"{name}={HIDDEN}"
    return segment if len(segment) <= LONGEST_SEGMENT else HIDDEN
