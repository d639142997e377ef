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
  ocl-edge inspect bundle --json - | jq .parity
"""


@click.command(epilog=EXAMPLES, short_help="Print a bundle and verify every file.")
@bundle_argument
@json_option
def inspect(bundle: Path, json_path: str | None) -> None:
    """Print the contents of BUNDLE and compare every file's sha256 with the manifest."""
    from ocl_edge_app.cli.output import emit_json
    from ocl_edge_app.cli.views import show_bundle

    opened = open_bundle(bundle)
    if json_path:
        emit_json(json_path, {"identity": opened.identity, **opened.manifest.model_dump(mode="json")})
    if json_path != "-":
        show_bundle(opened)
