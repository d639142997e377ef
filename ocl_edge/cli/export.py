"""``ocl-edge export``."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = """
\b
Examples:
  ocl-edge export espnetv2_s_2.0_city_1024x512.pth --input-size 384x512 --out bundle
  ocl-edge export model.pth --arch net.py:build:classes=11 --input-size 512x1024 --out bundle
  ocl-edge export model.pth --calibration frames/ --split decoder.classifier --out bundle
"""


class Size(click.ParamType[tuple[int, int]]):
    name = "HxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        height, _, width = str(value).lower().partition("x")
        if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
            self.fail(f"expected HEIGHTxWIDTH in pixels, for example 512x1024, got {value!r}", param, ctx)
        return int(height), int(width)


class Triple(click.ParamType[tuple[float, float, float]]):
    name = "R,G,B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        try:
            red, green, blue = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"expected three numbers, for example 0.485,0.456,0.406, got {value!r}", param, ctx)
        return red, green, blue


class StatRows(click.ParamType[int]):
    name = "all|N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if str(value) == "all":
            return 1
        if not str(value).isdecimal() or int(str(value)) < 1:
            self.fail(f"expected 'all' or a whole number from 1, got {value!r}", param, ctx)
        return int(str(value))


@click.command(epilog=EXAMPLES, short_help="Checkpoint -> verified bundle.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the new bundle.")
@click.option(
    "--arch",
    metavar="SPEC",
    help="espnetv2:scale=2.0,classes=20, or your own code: path/to/file.py:function:key=value,... "
    "Default: what the checkpoint says of itself, else recognised from its tensors.",
)
@click.option("--input-size", type=Size(), help="Height and width of the network's input, in pixels.")
@click.option(
    "--classes",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Class names: JSON list, JSON with 'classes' and 'palette_rgb', or a name a line.",
)
@click.option(
    "--split",
    default="auto",
    show_default=True,
    metavar="auto|MODULE",
    help="Module where the trainable head starts; auto: the last layer with weights.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of images for the parity gate; without it, noise.",
)
@click.option(
    "--stat-rows",
    type=StatRows(),
    default="8",
    show_default=True,
    help="Rows that the measured form takes statistics from: all, or every N-th.",
)
@click.option("--mean", type=Triple(), help="Mean of images scaled to 0..1. Default: ImageNet's.")
@click.option("--std", type=Triple(), help="Standard deviation likewise.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--trust-pickle", is_flag=True, help="Load a pickled module. Runs code from the file.")
@click.option("--json", "json_path", metavar="FILE", help="Write a summary as JSON; - is standard output.")
def export(
    checkpoint: Path,
    out: Path,
    arch: str | None,
    input_size: tuple[int, int] | None,
    classes: Path | None,
    split: str,
    calibration: Path | None,
    stat_rows: int,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    force: bool,
    trust_pickle: bool,
    json_path: str | None,
) -> None:
    """Split CHECKPOINT into backbone and head, write every form, and check them against the network.

    Nothing is written unless every exported form agrees with the original network.
    """
    from ocl_edge.cli.output import emit_json, stage_progress
    from ocl_edge.cli.views import show_export
    from ocl_edge_export.pipeline import ExportRequest, export_bundle

    request = ExportRequest(
        checkpoint,
        out,
        arch,
        input_size,
        classes,
        split,
        calibration,
        stat_rows,
        mean,
        std,
        force,
        trust_pickle,
    )
    with stage_progress("export") as progress:
        bundle = export_bundle(request, progress)
    if json_path:
        emit_json(
            json_path,
            {"bundle": str(out), "identity": bundle.identity, **bundle.manifest.model_dump(mode="json")},
        )
    if json_path != "-":
        show_export(bundle)
