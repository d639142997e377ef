"""``ocl-edge convert``."""

from __future__ import annotations

from pathlib import Path

import click

from ocl_edge_app.cli.options import json_option, require_exporter

EXAMPLES = """
\b
Examples:
  ocl-edge convert old-bundle new-bundle --trust-pickle
"""


@click.command(epilog=EXAMPLES, short_help="Rewrite a bundle of an older ocl-edge for this one.")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option(
    "--trust-pickle",
    is_flag=True,
    help="OLD is your own: loading its torch.export archives can run code that they hold.",
)
@json_option
def convert(old: Path, new: Path, force: bool, trust_pickle: bool, json_path: str | None) -> None:
    """Rewrite OLD, a bundle of an older ocl-edge, as NEW, which this one reads.

    The network, its weights and the gate's report stay the same; the bundle's identity is
    another, so that engines are built again and a saved state of OLD does not fit. For the
    desk: OLD holds torch.export archives, which no other verb loads.
    """
    require_exporter("convert")
    from ocl_edge_app.cli.output import emit_json
    from ocl_edge_app.cli.views import show_export
    from ocl_edge_export.convert import convert_bundle

    bundle = convert_bundle(old, new, force, trust_pickle)
    if json_path:
        emit_json(json_path, {"bundle": str(new), "identity": bundle.identity})
    if json_path != "-":
        show_export({"": bundle})
