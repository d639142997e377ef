"""PyTorch, imported when it is first used; where it is not installed, its stand-in in NumPy.

All that runs a bundle says ``from ocl_edge.tensors import Tensor, torch``. So a run reads its bundle and has
its graphs compiled while PyTorch, which takes a second or two to import, is on its way. And a run with
``--head engine``, which trains nothing in PyTorch, needs none: `ocl_edge.tensors.in_numpy` has the functions
that it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ocl_edge.errors import MissingExtraError

__all__ = [
    "Tensor",
    "require_torch",
    "resize_bilinear",
    "torch",
    "torch_is_installed",
    "without_gradients",
]

P = ParamSpec("P")
R = TypeVar("R")


class _AtFirstUse(ModuleType):
    """Stands for PyTorch; what was once looked up stays."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(_loaded(), name)
        setattr(self, name, found)
        return found


def _loaded() -> ModuleType:
    if torch_is_installed():
        import torch

        return torch
    from ocl_edge.tensors import in_numpy

    return in_numpy


if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = _AtFirstUse("torch")
    Tensor = "torch.Tensor"  # of annotations alone


def torch_is_installed() -> bool:
    return find_spec("torch") is not None


def require_torch(purpose: str) -> None:
    """Refuse what only PyTorch can do.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not torch_is_installed():
        raise MissingExtraError("torch", "torch", purpose)


def without_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """``torch.no_grad()`` as a decorator that does not import PyTorch where it decorates."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.no_grad():
            return function(*args, **kwargs)

    return called


def resize_bilinear(
    images: Tensor, size: Sequence[int], align_corners: bool, out: Tensor | None = None
) -> Tensor:
    """float32 [N, C, h, w] -> [N, C, H, W]: what ``torch.nn.functional.interpolate`` calls.

    Args:
        images: to resize.
        size: height and width of the result.
        align_corners: as there.
        out: receives the result.
    """
    resize: Any = torch.ops.aten.upsample_bilinear2d
    arguments = images, list(size), align_corners, None, None
    resized: Tensor = resize(*arguments) if out is None else resize.out(*arguments, out=out)
    return resized
