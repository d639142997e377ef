"""The graphs of a bundle, and the file of their weights, by name."""

from __future__ import annotations

from typing import Literal

FormName = Literal["plain", "modulated", "measured"]
HeadGraphName = Literal["head", "head_step"]
GraphName = Literal["plain", "modulated", "measured", "head", "head_step"]
"""What an engine can be built from: a form of the backbone, or a graph of a head whose weights are inputs."""

FORMS: tuple[FormName, ...] = ("plain", "modulated", "measured")
HEAD_GRAPHS: tuple[HeadGraphName, ...] = ("head", "head_step")
WEIGHT_FILE = "weights.safetensors"
"""Holds every tensor of the graphs and the programs, once."""
