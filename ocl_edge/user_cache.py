"""Where this user keeps what can be made again: engines, compiled models, bundles without their links."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """``$XDG_CACHE_HOME/ocl-edge``, by default ``~/.cache/ocl-edge``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ocl-edge"


def writable_place(*parts: str) -> Path | None:
    """A directory in the user's cache, made if it is missing; None where it cannot be written."""
    place = user_cache().joinpath(*parts)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return place
    except OSError:
        return None
