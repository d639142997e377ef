"""``--engine`` and ``--address``: where the passes of an evaluation run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ocl_edge_app.cli.options import together

if TYPE_CHECKING:
    from ocl_edge_app.evaluation.passes import Runner

runner_options = together(
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="local runs one pass after another; ray runs several at once, on this machine or a cluster.",
    ),
    click.option(
        "--address",
        metavar="auto|HOST[:PORT]",
        help="Ray cluster that this machine is a node of. Default: Ray is started here, for these passes.",
    ),
)


@contextmanager
def opened_runner(engine: str, address: str | None) -> Iterator[Runner]:
    """Where passes run.

    Raises:
        UsageError: ``--address`` without ``--engine ray``, or one that is none.
        MissingExtraError: Ray is not installed.
        ClusterError: there is no such cluster.
    """
    from ocl_edge.errors import UsageError
    from ocl_edge_app.evaluation.passes import Local

    if engine == "local":
        if address is not None:
            raise UsageError(f"--address {address} names a Ray cluster: add --engine ray")
        yield Local()
        return
    from ocl_edge_app.evaluation.on_ray import OnRay
    from ocl_edge_app.evaluation.ray_cluster import connected

    with connected(address) as ray:
        yield OnRay(ray)


def threads_of(engine: str, threads: int | None) -> int | None:
    """Threads of one operator: on Ray as many as a pass reserves, 1 unless told."""
    return 1 if threads is None and engine == "ray" else threads
