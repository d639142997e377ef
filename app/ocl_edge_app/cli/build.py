"""``ocl-edge build``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocl_edge.tensorrt.flavours import FLAVOURS
from ocl_edge_app.cli.bundles import bundle_argument, open_bundle
from ocl_edge_app.cli.export import parse_size
from ocl_edge_app.cli.options import (
    json_option,
    label_classes_option,
    label_map_option,
)

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.tensorrt.key import EngineKey
    from ocl_edge_export.engines.build import BuiltEngine
    from ocl_edge_export.engines.request import BuildRequest

EXAMPLES = """
\b
Examples:
  ocl-edge build bundle --backend tensorrt --precision fp16 --calibration frames/
  ocl-edge build bundle --backend tensorrt --precision int8 --calibration frames/ --labels labels/ \\
      --label-map map.json --label-classes classes.json
  ocl-edge build bundle --backend tensorrt-rtx --targets sm86,sm89
  ocl-edge build bundle --backend tensorrt-rtx --targets sm89 --forms head,head_step
  ocl-edge build bundle --backend tensorrt-rtx --targets sm86 --precision fp16 --plan
  ocl-edge build bundle --backend tensorrt-rtx --targets sm89 --forms plain --dry-run
"""

FORMS = "plain,modulated,measured"
ALL_GRAPHS = f"{FORMS},head,head_step"


def parse_forms(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    forms = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
    unknown = [form for form in forms if form not in ALL_GRAPHS.split(",")]
    if unknown:
        raise click.BadParameter(f"unknown form {unknown[0]!r}; known: {ALL_GRAPHS}")
    return forms


def parse_targets(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    targets = tuple(dict.fromkeys(part.strip().lower() for part in value.split(","))) if value else ()
    for target in targets:
        if not re.fullmatch(r"sm\d{2,3}", target):
            raise click.BadParameter(f"expected compute capabilities like sm86,sm89, got {target!r}")
    return targets


@click.command(epilog=EXAMPLES, short_help="Compile a bundle into TensorRT engines.")
@bundle_argument
@click.option(
    "--backend",
    "flavour",
    required=True,
    type=click.Choice(FLAVOURS),
    help="tensorrt builds on the device, for that device; tensorrt-rtx can also build elsewhere, without a "
    "GPU.",
)
@click.option(
    "--forms",
    callback=parse_forms,
    default=FORMS,
    show_default=True,
    help="Graphs to compile. run --head engine also needs head and head_step; they stay float32.",
)
@click.option(
    "--targets",
    callback=parse_targets,
    metavar="sm86,sm89",
    help="Compute capabilities to build for (tensorrt-rtx). Default: this machine's GPU.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16", "int8"]),
    default="fp32",
    show_default=True,
    help="Precision inside the engine; inputs, outputs, norm vectors and statistics stay float32.",
)
@click.option(
    "--input-size", callback=parse_size, metavar="HxW", help="Fail unless the bundle has this size."
)
@click.option(
    "--min-batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Smallest batch the engine accepts.",
)
@click.option(
    "--opt-batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Batch the engine is tuned for.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Largest batch; a view pair is 2.",
)
@click.option(
    "--workspace-mib", type=click.IntRange(min=1), metavar="N", help="Limit of the builder's scratch memory."
)
@click.option("--tf32", is_flag=True, help="Let float32 layers compute in TensorFloat-32.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of images for the precision gate and for int8's value ranges. Default: noise.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of class maps with the images' names; the gate then also compares mIoU.",
)
@label_map_option
@label_classes_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=1800,
    show_default=True,
    metavar="S",
    help="Seconds that one engine may take.",
)
@click.option("--rebuild", is_flag=True, help="Rebuild even if a valid engine exists.")
@click.option(
    "--trust-engines",
    is_flag=True,
    help="Let the engines that came with the bundle run here, as if built here. An engine is code.",
)
@click.option(
    "--plan",
    "kernels",
    is_flag=True,
    help="Print what the compiler made of each form: kernels, bytes and operations, and the ten kernels that "
    "move the most.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be built and build nothing.")
@json_option
def build(
    bundle: Path,
    json_path: str | None,
    trust_engines: bool,
    kernels: bool,
    dry_run: bool,
    input_size: tuple[int, int] | None,
    **asked: Any,
) -> None:
    """Compile the forms of BUNDLE into TensorRT engines, each in its own process.

    Valid engines that were built here are kept. With --trust-engines nothing is built.
    """
    from ocl_edge_app.cli.output import emit_json, note, stage_progress
    from ocl_edge_export.engines.build import build_engines, plan_build
    from ocl_edge_export.engines.request import BuildRequest

    request = BuildRequest(**asked)
    opened = open_bundle(bundle)
    _check_size(opened, input_size)
    if trust_engines:
        _trust_engines(opened)
        return
    if dry_run:
        _show_plan(opened, request, plan_build(opened, request), json_path)
        return
    with stage_progress("build") as progress:
        engines = build_engines(opened, request, progress)
    for engine in engines:
        for warning in engine.warnings:
            note(f"{engine.engine.record.key.form}: {warning}")
    if json_path:
        emit_json(json_path, {"bundle": str(bundle), "engines": [_as_dict(engine) for engine in engines]})
    if json_path != "-":
        _show(engines)
        if kernels:
            _show_kernels(engines)


def _trust_engines(bundle: Bundle) -> None:
    from ocl_edge.tensorrt.store import trust_engines
    from ocl_edge_app.cli.output import print_rows

    taken = trust_engines(bundle)
    rows = {f"{engine.path.parent.name}/{engine.path.name}": engine.record.sha256 for engine in taken}
    print_rows("engines that may run from now on", rows or {"none": "all that are there may run already"})


def _check_size(bundle: Bundle, size: tuple[int, int] | None) -> None:
    from ocl_edge.errors import UsageError

    frame = bundle.manifest.input
    if size is not None and size != (frame.height, frame.width):
        raise UsageError(
            f"the bundle is {frame.height}x{frame.width}: the size is fixed at export; for another one: "
            f"ocl-edge export {bundle.manifest.checkpoint} --input-size {size[0]}x{size[1]} --out OTHER"
        )


def _show_plan(bundle: Bundle, request: BuildRequest, keys: list[EngineKey], json_path: str | None) -> None:
    from ocl_edge.tensorrt.store import engine_directories, find_built
    from ocl_edge_app.cli.output import emit_json, print_table

    own = engine_directories(bundle)
    there = [any(find_built(bundle, place, key) for place in own) and not request.rebuild for key in keys]
    if json_path:
        plan = [
            {"key": key.model_dump(mode="json"), "built": built}
            for key, built in zip(keys, there, strict=True)
        ]
        emit_json(json_path, {"bundle": str(bundle.path), "plan": plan})
    if json_path != "-":
        rows = [
            [key.form, key.directory, "is there" if built else "to build"]
            for key, built in zip(keys, there, strict=True)
        ]
        print_table("build plan", ["form", "directory under engines/", ""], rows)


def _show_kernels(engines: list[BuiltEngine]) -> None:
    from ocl_edge_app.cli.plans import show_engines, show_kernels

    records = [built.engine.record for built in engines]
    show_engines(records)
    show_kernels(records)


def _as_dict(engine: BuiltEngine) -> dict[str, Any]:
    record = engine.engine.record.model_dump(mode="json")
    return {
        "path": str(engine.engine.path),
        "built": engine.built,
        "warnings": list(engine.warnings),
        **record,
    }


def _show(engines: list[BuiltEngine]) -> None:
    from ocl_edge_app.cli.output import note, print_table

    rows = []
    for engine in engines:
        record = engine.engine.record
        time = f"{record.build_s:.1f} s" if engine.built else "was there"
        rows.append([record.key.form, record.key.precision, time, f"{record.bytes / 1e6:.1f} MB"])
    print_table("engines", ["form", "precision", "build", "size"], rows)
    note(f"in {engines[0].engine.path.parent}")
