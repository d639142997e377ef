"""PyAV, which reads and writes videos."""

from __future__ import annotations

from typing import Any

from ocl_edge.errors import MissingExtraError


def import_av(purpose: str) -> Any:
    """The library.

    Args:
        purpose: what it is needed for, in words.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError("PyAV", "video", purpose) from error
    return av
