"""Tensors that no checkpoint holds: said where they are drawn anew, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocl_edge_export.checkpoint import load_network, read_checkpoint

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        {tensor}


def build():
    return Net()
"""
DRAWN = [
    "self.register_buffer('waves', torch.randn(4), persistent=False)",
    "self.stem.waves = torch.rand(2, 2)",
]
GIVEN = [
    "self.register_buffer('waves', torch.arange(4.0), persistent=False)",
    "self.register_buffer('waves', torch.randn(4))",
    "self.waves = torch.randn(4, generator=torch.Generator().manual_seed(1))",
    "pass",
]


def notes_on(tensor: str, directory: Path) -> tuple[str, ...]:
    file = directory / "net.py"
    file.write_text(CODE.format(tensor=tensor), "utf-8")
    space: dict[str, object] = {}
    exec(file.read_text("utf-8"), space)
    torch.save(space["build"]().state_dict(), directory / "net.pth")  # type: ignore[operator]
    return load_network(read_checkpoint(directory / "net.pth"), f"{file}:build").notes


@pytest.mark.parametrize("tensor", DRAWN)
def test_what_is_drawn_anew_is_named(tensor: str, tmp_path: Path) -> None:
    (note,) = notes_on(tensor, tmp_path)
    assert "waves anew whenever it is built" in note
    assert "persistent=True" in note


@pytest.mark.parametrize("tensor", GIVEN)
def test_what_is_the_same_or_in_the_checkpoint_is_not(tensor: str, tmp_path: Path) -> None:
    assert notes_on(tensor, tmp_path) == ()
