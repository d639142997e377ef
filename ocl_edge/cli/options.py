"""Options that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A number in a range. Comparisons let NaN through, this does not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
json_option = click.option(
    "--json", "json_path", metavar="FILE", help="Write the results as JSON; - is standard output."
)
backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    type=click.Choice(
        [
            "auto",
            "tensorrt",
            "tensorrt-rtx",
            "onnxruntime-cuda",
            "onnxruntime-tensorrt",
            "openvino",
            "onnxruntime",
            "torch",
        ]
    ),
    help="What runs the backbone; auto takes the fastest that works here.",
)
head_option = click.option(
    "--head",
    default="torch",
    show_default=True,
    type=click.Choice(["torch", "engine"]),
    help="What runs and trains the head: PyTorch, or the backend, as graphs (convolutional heads, OCL).",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads of one operator. Default: all cores."
)


def adaptation_options(command: Command) -> Command:
    """--prior, --lr, --restoration, --seed."""
    options = (
        click.option(
            "--prior", type=FiniteRange(0, 1), help="Weight of the source statistics; 1 = frozen norms."
        ),
        click.option("--lr", type=FiniteRange(min=0), help="Learning rate of the head."),
        click.option(
            "--restoration",
            type=FiniteRange(0, 1),
            help="Probability that a weight returns to its source value after a step.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the restoration."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def use_threads(threads: int | None) -> None:
    """Set the threads of PyTorch's own operators (head, loss, resizing)."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
