"""``ocl-edge export``."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from ocl_edge_app.cli.options import parse_json, quiet_option, require_exporter, two_sides

EXAMPLES = """
\b
Examples:
  ocl-edge export model.pth
  ocl-edge export model.pth --input-size 384x512 --out bundle
  ocl-edge export model.pth --arch net.py:build:classes=11,width=32 --input-size 512x1024 --out bundle
  ocl-edge export model.pth --calibration frames/ --split decoder.classifier --out bundle
  ocl-edge export two_tasks.pth --arch two_tasks.py:twin --output area=0,lanes=1 --out two-tasks
"""


def parse_size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = two_sides(value.lower())
    if sides is None or 0 in sides:
        raise click.BadParameter(f"expected HEIGHTxWIDTH in pixels, for example 512x1024, got {value!r}")
    return sides


def parse_numbers(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"expected a number for each channel, for example 0.485,0.456,0.406, got {value!r}"
        ) from None


def parse_classes(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> Path | dict[str, Path] | None:
    """A file for the one output, or files by the names of several."""
    named: dict[str, Path] = {}
    for value in values:
        output, equals, file = ("", "", value) if Path(value).is_file() else value.partition("=")
        path = Path(file if equals or not output else value)
        if not path.is_file():
            raise click.BadParameter(f"there is no file {path}")
        if output in named:
            raise click.BadParameter(
                f"{f'output {output}' if output else 'one output'} has one file of classes"
            )
        named[output] = path
    if "" in named and len(named) > 1:
        raise click.BadParameter("expected one file for one output, or OUTPUT=FILE for each of several")
    return named.get("") or named or None


def parse_scale(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    return None if value is None else int(value)


def parse_stat_rows(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    if value == "all":
        return 1
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"expected 'all' or a whole number from 1, got {value!r}")
    return int(value)


@click.command(epilog=EXAMPLES, short_help="Turn a checkpoint into a verified bundle.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Directory for the new bundle. Default: the checkpoint's name with .ocl, here.",
)
@click.option(
    "--arch",
    metavar="SPEC",
    help="Architecture: espnetv2:scale=2.0,classes=20, or your code, path/to/file.py:function:key=value,... "
    "Default: named by the checkpoint, else recognised from its tensors.",
)
@click.option(
    "--input-size",
    callback=parse_size,
    metavar="HxW",
    help="Height and width of the network's input in pixels. Default: the checkpoint's, else the "
    "architecture's.",
)
@click.option(
    "--classes",
    multiple=True,
    callback=parse_classes,
    metavar="[OUTPUT=]FILE",
    help="Class names: a JSON list, JSON with 'classes' and 'palette_rgb', or one name per line. "
    "Repeatable: of several outputs one file for each.",
)
@click.option(
    "--split",
    default="auto",
    show_default=True,
    metavar="auto|MODULE|list",
    help="Module where the trainable head starts; auto takes the last layers with weights. "
    "list shows where the network can be cut, and writes nothing.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of images like those that the network was trained on, for the parity gate and for what "
    "calibrate does with them. Default: noise, and no calibration.",
)
@click.option(
    "--norms",
    type=click.Choice(["all", "alternate"]),
    default="all",
    show_default=True,
    help="Norms that move with the frame: all, or every second one, twice as far. The others then stay as "
    "trained, and cost nothing.",
)
@click.option(
    "--stat-rows",
    callback=parse_stat_rows,
    metavar="all|N",
    default="8",
    show_default=True,
    help="Rows the measured form takes statistics from: all, or every N-th.",
)
@click.option(
    "--colour",
    type=click.Choice(["rgb", "bgr", "grey"]),
    help="Order of the network's channels. Default: RGB; grey for one channel.",
)
@click.option(
    "--resize",
    type=click.Choice(["stretch", "letterbox"]),
    default="stretch",
    show_default=True,
    help="How frames get the input size, as in training: stretched, or whole between grey bars.",
)
@click.option(
    "--scale",
    type=click.Choice(["1", "255"]),
    callback=parse_scale,
    help="Value of a white pixel before mean and deviation are applied. Default: 1.",
)
@click.option(
    "--mean",
    callback=parse_numbers,
    metavar="M,M,M",
    help="Mean of each channel, in the network's order and scale. Default: ImageNet's.",
)
@click.option("--std", callback=parse_numbers, metavar="S,S,S", help="Standard deviation likewise.")
@click.option(
    "--output",
    metavar="NAME|INDEX|all",
    help="Output of the network that is its segmentation, where it gives several. Default: 'out' or "
    "'logits', else the first. all gives each its own head, adaptation and masks; "
    "NEWNAME=OUTPUT,NEWNAME=OUTPUT those, under these names.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Probability from which a pixel is foreground, for a network with one channel.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option(
    "--weights-key",
    metavar="KEY",
    help="Key in CHECKPOINT under which the weights lie, for example model_ema. Default: the best that fits.",
)
@click.option("--trust-pickle", is_flag=True, help="Load a pickled module. Runs code from the file.")
@click.option(
    "--json",
    "json_path",
    callback=parse_json,
    metavar="FILE",
    help="Write the manifest as JSON to this file; - is standard output.",
)
@quiet_option
def export(checkpoint: Path, out: Path | None, json_path: str | None, **options: Any) -> None:
    """Split CHECKPOINT into a backbone and a head and write them as a bundle.

    The bundle is written only if every exported form agrees with the original network.
    """
    require_exporter("export")
    from ocl_edge.bundle.mistaken import BUNDLE_SUFFIX
    from ocl_edge.bundle.outputs import text_of
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.cli.output import emit_json, note, stage_progress
    from ocl_edge_app.cli.views import show_cuts, show_export
    from ocl_edge_export.pipeline import ExportRequest, export_bundle, list_cuts
    from ocl_edge_runtime.calibration.calibrate import calibrate_outputs
    from ocl_edge_runtime.calibration.frames import find_frames

    notes: list[str] = []
    out = out or Path(checkpoint.name).with_suffix(BUNDLE_SUFFIX)
    request = ExportRequest(checkpoint, out, **options)
    if request.split == "list":
        with stage_progress("export") as progress, redirect_stdout(sys.stderr):
            cuts = list_cuts(request, progress)
        if json_path:
            emit_json(json_path, {"cuts": [asdict(cut) for cut in cuts]})
        if json_path != "-":
            show_cuts(cuts)
        return
    frames = find_frames(request.calibration) if request.calibration else None
    # what a network prints in its forward() is not the verb's output
    with stage_progress("export") as progress, redirect_stdout(sys.stderr):
        bundle = export_bundle(request, progress)
        bundles = {"": bundle} if not bundle.output else Bundle.open_outputs(request.out)
        if frames is not None and bundle.manifest.sensing_norms:
            frames = replace(frames, channels=bundle.manifest.input.frame_channels)
            bundles, found = calibrate_outputs(bundles, frames, progress=progress)
            bundle = next(iter(bundles.values()))
            notes = [f"{n}: {words}" if n else words for n, each in found.items() for words in each.notes]
    for words in notes:
        note(words)
    if json_path:
        told = {"bundle": str(request.out), "identity": bundle.manifest_sha256}
        manifests = {name: each.manifest for name, each in bundles.items()}
        emit_json(json_path, {**told, **json.loads(text_of(manifests))})
    if json_path != "-":
        show_export(bundles)
