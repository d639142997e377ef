"""``ocl-edge bake``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocl_edge_app.cli.bundles import bundle_argument, open_bundle
from ocl_edge_app.cli.options import OpeningType, json_option, quiet_option, require_exporter

if TYPE_CHECKING:
    from ocl_edge_app.baking import Baked, NormsTaken
    from ocl_edge_runtime.session.options import OpeningKind

EXAMPLES = """
\b
Examples:
  ocl-edge bake bundle --state state/ --out adapted.pth
  ocl-edge bake bundle --state state/ --arch net.py:build:classes=11,width=32 --out own.pth
  ocl-edge bake bundle --state state/ --norms trained --frames frames/ --out adapted.ocl
"""

MOST_IMAGES = 20
"""Of --frames; more tell nothing new."""


@click.command(epilog=EXAMPLES, short_help="Take what was learned out, as a checkpoint of your network.")
@bundle_argument
@click.option(
    "--state",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Directory that `ocl-edge run --state` kept.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.pth|DIR",
    help="A name that ends with .pth or .pt becomes a checkpoint, any other a bundle.",
)
@click.option(
    "--arch",
    metavar="SPEC",
    help="Architecture, as for export. Default: recognised from the tensors.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Checkpoint that was exported: what the bundle does not hold (training heads) comes from it.",
)
@click.option("--weights-key", metavar="KEY", help="Key in --checkpoint under which the weights lie.")
@click.option(
    "--norms",
    type=click.Choice(["running", "trained"]),
    default="running",
    show_default=True,
    help="running bakes the running statistics of the session, mixed as far as it was open; trained keeps "
    "those of training and bakes the head alone.",
)
@click.option(
    "--opening",
    type=OpeningType(),
    help="Opening that the run had, where that was a number. Default: as saved.",
)
@click.option(
    "--frames",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Images to compare the masks on. Default: noise.",
)
@click.option("--force", is_flag=True, help="Replace what lies at --out.")
@click.option("--trust-pickle", is_flag=True, help="Load a pickled --checkpoint. Runs code from the file.")
@json_option
@quiet_option
def bake(
    bundle: Path,
    state: Path,
    out: Path,
    arch: str | None,
    checkpoint: Path | None,
    weights_key: str | None,
    norms: NormsTaken,
    opening: OpeningKind | None,
    directory: Path | None,
    force: bool,
    trust_pickle: bool,
    json_path: str | None,
) -> None:
    """Write the network of BUNDLE with what a run has learned in it.

    The checkpoint holds tensors under the names that your own code gave them. It is written only if its masks
    are those of the session.
    """
    require_exporter("bake")
    from ocl_edge.errors import UsageError
    from ocl_edge.images import image_files, read_image
    from ocl_edge_app.baking import BakeRequest
    from ocl_edge_app.baking import bake as bake_state
    from ocl_edge_app.cli.output import emit_json, note, stage_progress
    from ocl_edge_export.baking import OriginalNetwork

    original = OriginalNetwork(arch, checkpoint, weights_key, trust_pickle)
    opened = open_bundle(bundle)
    channels = opened.manifest.input.frame_channels
    files = image_files(directory)[:MOST_IMAGES] if directory else []
    images = [read_image(file, channels) for file in files]
    if directory and not images:
        raise UsageError(f"--frames {directory}: no images there")
    request = BakeRequest(state, out, original, norms, opening, images, force)
    with stage_progress("bake") as progress:
        baked = bake_state(opened, request, progress)
    for words in baked.notes:
        note(words)
    if json_path:
        emit_json(json_path, baked.as_dict())
    if json_path != "-":
        _show(baked)


def _show(baked: Baked) -> None:
    from ocl_edge_app.cli.output import print_rows

    changed = (
        f"{len(baked.changed)} tensors" if baked.changed else "nothing: the state is the trained network"
    )
    print_rows(
        f"baked {baked.out}",
        {
            "changed": changed,
            "head": f"{100 * baked.weights_distance:.1f} % away from the trained weights",
            "opening": f"{baked.opening:.2f}",
            "masks": f"{100 * baked.disagreement:.3f} % of the pixels differ from the session's, "
            f"{baked.images} images",
        },
    )
