"""``ocl-edge doctor``."""

from __future__ import annotations

import click

from ocl_edge_app.cli.options import json_option

EXAMPLES = """
\b
Examples:
  ocl-edge doctor
  ocl-edge doctor --json report.json
"""


@click.command(epilog=EXAMPLES, short_help="List what this machine can run, and why not the rest.")
@json_option
def doctor(json_path: str | None) -> None:
    """List the machine, the libraries, every backend and why it is unusable, cameras, and the next step."""
    from ocl_edge_app.cli.output import emit_json, print_rows
    from ocl_edge_app.doctor.machine import describe_machine

    machine = describe_machine()
    if json_path:
        emit_json(json_path, machine.as_dict())
    if json_path != "-":
        print_rows("machine", machine.hardware)
        print_rows(
            "libraries", {name: version or "not installed" for name, version in machine.libraries.items()}
        )
        print_rows("backends", {name: reason or "usable" for name, reason in machine.backends.items()})
        print_rows("cameras", machine.cameras or {"": "none (no /dev/video*)"})
        print_rows("next", {"": machine.advice})
