"""Names of the files that are written for frames."""

from __future__ import annotations

import hashlib
import os

MOST_BYTES = 255
"""Of a name, on every file system that matters."""

DIGITS = 12


def file_name(frame_name: str, suffix: str = ".png") -> str:
    """The frame's own name with the suffix; one that is too long is cut, and ends with digits of its hash.

    Names keep whatever else they hold, so that a mask is found by the name of its frame.
    """
    whole = os.fsencode(frame_name) + os.fsencode(suffix)
    if len(whole) <= MOST_BYTES:
        return frame_name + suffix
    digest = hashlib.sha256(os.fsencode(frame_name)).hexdigest()[:DIGITS]
    kept = os.fsencode(frame_name)[: MOST_BYTES - len(suffix) - DIGITS - 1]
    return f"{os.fsdecode(kept.decode('utf-8', 'ignore').encode())}~{digest}{suffix}"
