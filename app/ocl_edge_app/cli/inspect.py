"""``ocl-edge inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from ocl_edge_app.cli.bundles import bundle_argument, open_bundle
from ocl_edge_app.cli.options import json_option

EXAMPLES = """
\b
Examples:
  ocl-edge inspect bundle
  ocl-edge inspect bundle --plan
  ocl-edge inspect bundle --json - | jq .parity
"""


@click.command(epilog=EXAMPLES, short_help="Print a bundle and verify every file.")
@bundle_argument
@click.option("--plan", is_flag=True, help="Print the ten kernels of each engine that move the most bytes.")
@json_option
def inspect(bundle: Path, plan: bool, json_path: str | None) -> None:
    """Print the contents of BUNDLE and compare every file's sha256 with the manifest."""
    from ocl_edge.tensorrt.store import list_engines
    from ocl_edge_app.cli.output import emit_json
    from ocl_edge_app.cli.plans import show_engines, show_kernels
    from ocl_edge_app.cli.views import show_bundle

    opened = open_bundle(bundle)
    records = [engine.record for engine in list_engines(opened)]
    if json_path:
        engines = [record.model_dump(mode="json") for record in records]
        told = {"identity": opened.identity, **opened.manifest.model_dump(mode="json"), "engines": engines}
        emit_json(json_path, told)
    if json_path != "-":
        show_bundle(opened)
        if records:
            show_engines(records)
        if plan:
            show_kernels(records)
