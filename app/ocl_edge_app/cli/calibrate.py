"""``ocl-edge calibrate``."""

from __future__ import annotations

from pathlib import Path

import click

from ocl_edge_app.cli.bundles import bundle_argument, open_outputs
from ocl_edge_app.cli.options import (
    backend_option,
    command_line,
    html_option,
    json_option,
    quiet_option,
    threads_option,
    use_threads,
)

EXAMPLES = """
\b
Examples:
  ocl-edge calibrate bundle --frames frames/
  ocl-edge calibrate bundle --frames frames/ --html home.html --json home.json
"""


@click.command(epilog=EXAMPLES, short_help="Measure what is home for a network, on unlabelled frames.")
@bundle_argument
@click.option(
    "--frames",
    "directory",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="20 to 200 images like those that the network was trained on; no labels. At least 5.",
)
@backend_option
@threads_option
@json_option
@html_option
@quiet_option
def calibrate(
    bundle: Path,
    directory: Path,
    backend: str,
    threads: int | None,
    json_path: str | None,
    html_path: Path | None,
) -> None:
    """Measure on unlabelled frames what is home for the network of BUNDLE, and store it there.

    At home masks stay the frozen network's. Home frames and corrupted copies of them give the weights of the
    norms, channel by channel, the limits of what is learned from, and whether the head earns its place.
    The bundle gets another identity: engines stay valid, saved states and signatures do not.
    Several outputs share home and the weights of the norms; each head is tried for itself.
    """
    use_threads(threads)
    from ocl_edge.bundle.signature import SIGNATURE
    from ocl_edge_app.cli.output import emit_json, note, stage_progress
    from ocl_edge_app.cli.views import show_calibration
    from ocl_edge_runtime.calibration.calibrate import calibrate_outputs
    from ocl_edge_runtime.calibration.frames import find_frames

    opened = open_outputs(bundle)
    frames = find_frames(directory, next(iter(opened.values())).manifest.input.frame_channels)
    with stage_progress("calibrate") as progress:
        stored, of_outputs = calibrate_outputs(opened, frames, backend, threads, progress)
    calibrated, found = next(iter(stored.values())), next(iter(of_outputs.values()))
    if (bundle / SIGNATURE).exists():
        note("the signature is that of the bundle before: ocl-edge sign makes the new one")
    if json_path:
        told = {name: each.as_dict() for name, each in of_outputs.items()}
        of_all = {"outputs": told} if len(told) > 1 else found.as_dict()
        emit_json(json_path, {"bundle": str(bundle), "identity": calibrated.manifest_sha256, **of_all})
    if html_path:
        from ocl_edge_app.report.calibration_report import calibration_page
        from ocl_edge_app.report.page import write_page
        from ocl_edge_app.report.what_ran import what_ran

        whole = calibrated if len(stored) == 1 else calibrated.whole
        ran = what_ran(command_line(), whole, {"frames": str(directory)})
        write_page(calibration_page(calibrated, of_outputs, ran), html_path)
    if json_path != "-":
        for name, each in of_outputs.items():
            show_calibration(stored[name], each)
