"""The bundle that a verb takes, and who must have signed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocl_edge_app.cli.options import together

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle

SIGNED_BY = "ocl_edge.signed_by"


def _keep_key(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    ctx.meta[SIGNED_BY] = value


signature_option = click.option(
    "--require-signature",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEY",
    expose_value=False,
    callback=_keep_key,
    help="Refuse the bundle unless the owner of this public key signed it (`ocl-edge sign`).",
)
bundle_argument = together(click.argument("bundle", type=click.Path(path_type=Path)), signature_option)


def open_bundle(path: Path) -> Bundle:
    """The bundle of the command that runs, signed as it asks, or one output of it (``BUNDLE#NAME``)."""
    from ocl_edge.bundle.reading import Bundle

    return Bundle.open(path, signed_by=click.get_current_context().meta[SIGNED_BY])


def open_outputs(path: Path) -> dict[str, Bundle]:
    """Likewise, every output by its name, which is empty where the bundle has one."""
    from ocl_edge.bundle.reading import Bundle

    return Bundle.open_outputs(path, signed_by=click.get_current_context().meta[SIGNED_BY])
