"""``ocl-edge sign``."""

from __future__ import annotations

from pathlib import Path

import click

from ocl_edge_app.cli.options import json_option

EXAMPLES = """
\b
Examples:
  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub
  ocl-edge sign bundle --key key.pem
  ocl-edge run bundle --require-signature key.pub --source frames/
"""


@click.command(epilog=EXAMPLES, short_help="Sign a bundle with a key of yours.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File of an Ed25519 private key: PEM, no passphrase.",
)
@json_option
def sign(bundle: Path, key: Path, json_path: str | None) -> None:
    """Sign BUNDLE: its manifest, which holds the hash of every other file.

    Every file is compared with the manifest before. The signature lies beside it as manifest.json.sig.
    """
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.cli.output import emit_json, note

    opened = next(iter(Bundle.open_outputs(bundle).values()))  # one manifest for all
    signature = opened.sign(key)
    if json_path:
        emit_json(json_path, {"identity": opened.manifest_sha256, "signature": str(signature)})
    note(f"signed: {signature}")
