"""``ocl-edge fleet``: server, client, rollback."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from ocl_edge_app.cli.options import (
    backend_option,
    label_classes_option,
    label_map_option,
    quiet_option,
    threads_option,
    together,
    use_threads,
)

EXAMPLES = """
\b
Examples:
  ocl-edge fleet server bundle --directory server --key key.pem --frames frames/
  ocl-edge fleet client bundle --directory fleet --signed-by key.pub --server localhost:9470 \\
    --state state --journal run.jsonl
  ocl-edge run fleet/current --source frames/ --state state --resume auto --journal run.jsonl
  ocl-edge fleet rollback --directory fleet
"""

directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Versions of the fleet's bundle, and current, a link to the one that runs. Made if it is missing.",
)
file_type = click.Path(path_type=Path, dir_okay=False)
frames_option = click.option(
    "--frames",
    type=click.Path(path_type=Path, file_okay=False),
    help="Images without labels, on which the guard looks at a new version: the server's of all kinds of "
    "weather, a vehicle's own recent ones.",
)
computing_options = together(backend_option, threads_option, quiet_option)


@click.group(epilog=EXAMPLES, short_help="Share what vehicles learn, without their images.")
def fleet() -> None:
    """Share what the heads of many vehicles learn: a server gathers and signs, vehicles take or refuse.

    Vehicles send the head's weights, running norm statistics and a few numbers of the journal; never images.
    """


@fleet.command(short_help="Gather from vehicles, publish signed versions.")
@click.argument("bundle", type=click.Path(path_type=Path))
@directory_option
@click.option("--key", type=file_type, required=True, help="Private key (Ed25519, PEM) that signs versions.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:9470",
    show_default=True,
    help="Address for vehicles. Beyond this machine it needs a certificate and the vehicles' keys.",
)
@click.option("--certificate", type=file_type, help="TLS certificate of this server (PEM).")
@click.option("--certificate-key", type=file_type, help="Its private key (PEM).")
@click.option(
    "--vehicles",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of NAME.pub, the public keys of the vehicles that may join (PEM, elliptic curve).",
)
@click.option("--rounds", type=click.IntRange(1), help="End after so many rounds. Default: never.")
@click.option(
    "--every", type=click.FloatRange(0), default=3600.0, show_default=True, help="Seconds between rounds."
)
@click.option(
    "--timeout", type=click.FloatRange(1), default=60.0, show_default=True, help="Seconds for an answer."
)
@click.option(
    "--least",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Vehicles that make a head of their conditions; a round waits for so many.",
)
@frames_option
@click.option(
    "--labelled-frames",
    metavar="DIR|GLOB|URL",
    help="Frames with labels: a version whose mIoU falls on them is not published.",
)
@click.option("--labels", metavar="DIR|URL", help="Their labels, see `evaluate --labels`.")
@label_map_option
@label_classes_option
@click.option("--report", type=file_type, help="Append each round as a line of JSON.")
@computing_options
def server(
    bundle: Path,
    directory: Path,
    key: Path,
    listen: str,
    certificate: Path | None,
    certificate_key: Path | None,
    vehicles: Path | None,
    rounds: int | None,
    every: float,
    timeout: float,
    least: int,
    frames: Path | None,
    labelled_frames: str | None,
    labels: str | None,
    label_map: Path | None,
    label_classes: Path | None,
    report: Path | None,
    backend: str,
    threads: int | None,
) -> None:
    """Ask vehicles for what they learned, and publish what passes as new signed versions of BUNDLE.

    A round: heads that are broken, foreign or far from the others are refused by name; the rest is averaged,
    each kind of weather for itself; the guard judges the result on --frames, and mIoU on --labelled-frames.
    Only then it is signed and handed to every vehicle.
    """
    use_threads(threads)
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.bundle.signature import check_private_key
    from ocl_edge_app.cli.output import note
    from ocl_edge_app.evaluation.what_is_scored import Named, find_what_is_scored
    from ocl_edge_app.fleet.aggregation import Rules
    from ocl_edge_app.fleet.flower_server import SuperLink
    from ocl_edge_app.fleet.judgement import Computes, recorded_frames
    from ocl_edge_app.fleet.listening import listening_at
    from ocl_edge_app.fleet.publishing import Judges
    from ocl_edge_app.fleet.rounds import Server, run_rounds
    from ocl_edge_app.fleet.versions import Versions

    where = listening_at(listen, certificate, certificate_key, vehicles)
    opened = Bundle.open(bundle)
    check_private_key(key)
    labelled = None
    if labelled_frames or labels:
        named = Named(None, labelled_frames, labels, label_map, label_classes)
        labelled = find_what_is_scored(named, opened.manifest)[:2]
    seen = tuple(recorded_frames(frames, opened.manifest.input.frame_channels)) if frames else ()
    judges = Judges(seen, labelled, Computes(backend, threads))
    versions = Versions.begin(directory, opened, None)
    working = Server(versions, key, judges, Rules(least=least), timeout)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with SuperLink(where) as grid:
        note(f"serving version {versions.newest} of {opened.network[:16]} on {listen}")
        run_rounds(working, grid, rounds, every, report, note)


@fleet.command(short_help="Send what a run learned, take new versions.")
@click.argument("bundle", type=click.Path(path_type=Path))
@directory_option
@click.option("--server", "address", metavar="HOST:PORT", required=True, help="Of `ocl-edge fleet server`.")
@click.option(
    "--signed-by",
    type=file_type,
    required=True,
    help="Public key (PEM) whose owner signs the versions.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory of the run's --state: head and norm statistics are read from there.",
)
@click.option("--journal", type=file_type, required=True, help="File of the run's --journal.")
@click.option("--identity", type=file_type, help="This vehicle's private key (PEM, elliptic curve).")
@click.option(
    "--authority", type=file_type, help="Certificate that signs the server's. Default: the system's ones."
)
@click.option("--answers", type=click.IntRange(1), help="End after so many answers. Default: never.")
@click.option(
    "--give-up",
    type=click.FloatRange(1),
    default=3600.0,
    show_default=True,
    help="Seconds that a server which is away is waited for.",
)
@frames_option
@computing_options
def client(
    bundle: Path,
    directory: Path,
    address: str,
    signed_by: Path,
    state: Path,
    journal: Path,
    identity: Path | None,
    authority: Path | None,
    answers: int | None,
    give_up: float,
    frames: Path | None,
    backend: str,
    threads: int | None,
) -> None:
    """Answer the server of a fleet: send what a run of BUNDLE learned, take new versions or refuse them.

    It runs beside `ocl-edge run DIRECTORY/current`. A version must be signed, newer, of this network, and
    pass the guard on --frames; then current leads to it, and the next start of a run takes it. The one
    before stays.
    """
    use_threads(threads)
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.cli.output import note
    from ocl_edge_app.fleet.flower_vehicle import serve
    from ocl_edge_app.fleet.judgement import Computes
    from ocl_edge_app.fleet.listening import reaching_of
    from ocl_edge_app.fleet.taking import Vehicle
    from ocl_edge_app.fleet.versions import Versions

    reaching = reaching_of(address, authority, identity, give_up)
    versions = Versions.begin(directory, Bundle.open(bundle), signed_by)
    vehicle = Vehicle(versions, state, journal, frames, Computes(backend, threads), note)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve(reaching, vehicle.answer, answers, note)


@fleet.command(short_help="Run the version before.")
@directory_option
@quiet_option
def rollback(directory: Path) -> None:
    """Take the version before the one that runs; what was left is never taken again, only a newer one."""
    from ocl_edge_app.cli.output import note
    from ocl_edge_app.fleet.versions import Versions

    note(f"{directory / 'current'} leads to version {Versions(directory, None).roll_back()}")
