"""Options that several verbs share."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ocl_edge.plain_text import HIDDEN, without_secrets_of
from ocl_edge_runtime.backends import BACKENDS

if TYPE_CHECKING:
    from ocl_edge.method.norms import Prior
    from ocl_edge_runtime.session.options import MaskSize, OpeningKind

LONGEST_COMMAND = 80
MOST_DIGITS = 18
SEEDS = range(2**32)
QUIET = "ocl_edge.quiet"
SOURCE_OPTION = "--source-option"
HARMLESS = ("video_size", "framerate", "input_format", "pixel_format", "rtsp_transport", "fflags", "flags")
"""Settings of FFmpeg's input whose values may be shown; others may be passphrases, headers or cookies."""

Command = TypeVar("Command", bound=Callable[..., Any])


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator for several options, shown in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def whole_number(text: str) -> int | None:
    """The number that decimal digits write, none longer than a 64-bit integer's; None where it is not one."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def two_sides(text: str) -> tuple[int, int] | None:
    """``AxB`` -> both numbers; None where it is not of that form."""
    first, _, second = text.partition("x")
    sides = whole_number(first), whole_number(second)
    return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])


class FiniteRange(click.FloatRange):
    """A number in a range. Comparisons let NaN through, this does not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class PriorType(click.ParamType):  # type: ignore[type-arg]
    """``P``, or ``FIRST:LAST``."""

    name = "P|FIRST:LAST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Prior:
        """One number, or two with a colon between them, each 0 to 1."""
        numbers = [FiniteRange(0, 1).convert(part, param, ctx) for part in str(value).split(":")]
        if len(numbers) > 2:
            self.fail(f"{value} is neither one number nor FIRST:LAST.", param, ctx)
        return numbers[0], numbers[-1]


prior_option = click.option(
    "--prior",
    type=PriorType(),
    help="Weight of the trained norm statistics, 0 to 1. One number is for all norms; FIRST:LAST rises "
    "from the first norm to the last. 1 freezes the norms. Default: the bundle's.",
)


class OpeningType(click.ParamType):  # type: ignore[type-arg]
    """``auto``, or a number."""

    name = "auto|0..1"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> OpeningKind:
        """``auto`` as it is, a number 0 to 1 as one."""
        return "auto" if value == "auto" else FiniteRange(0, 1).convert(value, param, ctx)


opening_option = click.option(
    "--opening",
    type=OpeningType(),
    help="How far adaptation opens. auto follows each frame's distance from home, which is what the network "
    "was trained for: at home masks are the frozen network's. 1 is always wide open, 0 never. Default: auto.",
)


class MaskSizeType(click.ParamType):  # type: ignore[type-arg]
    """``frame``, ``network``, or ``HxW``."""

    name = "frame|network|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> MaskSize:
        """The words as they are, a size as height and width."""
        if value == "frame" or value == "network":
            return value  # type: ignore[no-any-return]
        sides = two_sides(str(value))
        if sides is None or 0 in sides:
            self.fail(f"{value} is neither frame nor network nor a size such as 384x512.", param, ctx)
        return sides


mask_size_option = click.option(
    "--mask-size",
    type=MaskSizeType(),
    default="frame",
    show_default=True,
    help="Size of the masks: each frame's own, the network's input, or HEIGHTxWIDTH. Smaller masks take less "
    "time.",
)


def opening_or_auto(wanted: OpeningKind | None) -> OpeningKind:
    """What --opening says, or its default."""
    return "auto" if wanted is None else wanted


label_map_option = click.option(
    "--label-map",
    type=click.Path(path_type=Path),
    help="JSON list with one label class for each class of the network.",
)
label_classes_option = click.option(
    "--label-classes",
    type=click.Path(path_type=Path),
    help="JSON with the labels' 'classes' and 'ignore_index'. Default: the network's classes, and 255.",
)


def _refuse_early(path: Path) -> None:
    """Refuse a file that could not be written after hours of work."""
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no directory {path.parent}; make it first")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written; name a file in a directory of yours")


def parse_html(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    """A file that can be written."""
    if value is not None:
        _refuse_early(value)
    return value


def parse_json(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A file that can be written, or ``-``."""
    if value not in (None, "-"):
        _refuse_early(Path(value))
    return value


def parse_seeds(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    """``0,1,2`` as numbers."""
    numbers = [whole_number(seed.strip()) for seed in value.split(",")]
    found = tuple(number for number in numbers if number is not None and number in SEEDS)
    if len(found) < len(numbers):
        raise click.BadParameter(f"{value}: expected whole numbers from 0 to {SEEDS.stop - 1}, as in 0,1,2")
    return found


json_option = click.option(
    "--json",
    "json_path",
    callback=parse_json,
    metavar="FILE",
    help="Write the results as JSON to this file; - is standard output.",
)
html_option = click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path),
    callback=parse_html,
    metavar="FILE",
    help="Write a report as one HTML file.",
)
backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", *BACKENDS]),
    help="Library that runs the backbone; auto takes the fastest that works here.",
)
head_option = click.option(
    "--head",
    default="torch",
    show_default=True,
    type=click.Choice(["torch", "engine"]),
    help="torch runs and trains the head in PyTorch; engine does both in the backend, as graphs "
    "(convolutional heads with the OCL only).",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads for one operator. Default: all cores."
)


def quiet_option(command: Command) -> Command:
    """--quiet: `ocl_edge_app.cli.output` asks for it by `is_quiet`."""
    return click.option(
        "--quiet",
        "-q",
        is_flag=True,
        expose_value=False,
        callback=_remember_quiet,
        help="Print errors only, and the JSON of --json -.",
    )(command)


def _remember_quiet(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta[QUIET] = value


def is_quiet() -> bool:
    """Whether the command that runs was called with --quiet."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(QUIET))


def command_line() -> str:
    """The command that runs, as it was typed, without secrets; a long one has a line for each option."""
    words = [shlex.quote(word) for word in _without_secrets(click.get_current_context().find_root().obj)]
    line = " ".join(words)
    if len(line) <= LONGEST_COMMAND:
        return line
    return "".join(f" \\\n    {word}" if word.startswith("--") else f" {word}" for word in words).strip()


def _without_secrets(words: list[str]) -> Iterator[str]:
    """The words of a command as they may be shown."""
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        hides = SOURCE_OPTION in (before, option)
        yield f"{option}{equals}{harmless(value) if hides and value else without_secrets_of(value)}"


def harmless(setting: str) -> str:
    """A setting of FFmpeg's input, NAME=VALUE, without a value that may be a secret."""
    name = setting.partition("=")[0]
    return setting if name in HARMLESS else f"{name}={HIDDEN}"


adaptation_options = together(
    prior_option,
    click.option(
        "--lr", type=FiniteRange(min=0), help="Learning rate. Default: the method's, else the bundle's."
    ),
    click.option(
        "--restoration",
        type=FiniteRange(0, 1),
        help="Probability that a weight returns to its trained value after a step. "
        "Default: the method's, else the bundle's.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(SEEDS.start, SEEDS.stop - 1),
        default=0,
        show_default=True,
        help="Random seed for stochastic restoration.",
    ),
)
"""--prior, --lr, --restoration, --seed."""


def require_exporter(purpose: str) -> None:
    """Refuse now what would fail halfway.

    Raises:
        MissingExtraError: a library that an export needs is not installed.
    """
    from importlib.util import find_spec

    from ocl_edge.errors import MissingExtraError

    for library in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(library) is None:
            raise MissingExtraError(library, "cpu", purpose)


def use_threads(threads: int | None) -> None:
    """Set the threads of PyTorch's own operators (head, loss, resizing)."""
    if threads is not None:
        from ocl_edge.tensors import torch

        torch.set_num_threads(threads)
