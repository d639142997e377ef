"""What of ONNX is not read."""

from __future__ import annotations


class UnknownOperatorError(Exception):
    """An operator, or a use of one, that is not read; the message says which, its catcher where."""
