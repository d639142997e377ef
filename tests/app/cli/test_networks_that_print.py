"""A network that prints while it runs does not spoil what a script reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ocl_edge.network.zoo.own_code import build_own
from ocl_edge_app.cli import run

NETWORK = """
from torch import nn

class Talks(nn.Sequential):
    def forward(self, image):
        print("shape:", image.shape)
        return super().forward(image)

def build():
    return Talks(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
"""


def test_json_on_standard_output_is_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, checkpoint = tmp_path / "net.py", tmp_path / "net.pth"
    code.write_text(NETWORK, encoding="utf-8")
    torch.save(build_own(f"{code}:build", {}).state_dict(), checkpoint)
    command = ["export", str(checkpoint), "--arch", f"{code}:build", "--input-size", "32x48"]
    assert run([*command, "--split", "list", "--json", "-"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["cuts"]
    assert "shape:" in told.err
