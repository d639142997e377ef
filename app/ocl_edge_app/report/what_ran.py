"""What a report says of the conditions: command, bundle, machine, versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.doctor.machine import describe_machine
from ocl_edge_app.report.page import Facts, Section
from ocl_edge_runtime.session.session import Session

NOT_THE_MACHINE = ("ocl-edge", "python")


def what_ran(command: str, bundle: Bundle, settings: Mapping[str, Any]) -> Section:
    """A section that lets somebody else do it again.

    Args:
        command: as it was typed.
        bundle: that ran.
        settings: name -> value, whatever else the results depend on.
    """
    manifest = bundle.manifest
    rows: dict[str, object] = {
        "command": command,
        "bundle": bundle.named,
        "identity": bundle.identity,
        "network": f"{manifest.architecture} from {manifest.checkpoint}, "
        f"input {manifest.input.height}x{manifest.input.width}",
        **settings,
        **machine_facts(),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
    }
    return Section("What ran", [Facts(rows)])


def network_name(bundle: Bundle) -> str:
    """Of the architecture, without its options or the path of its file; and the output, of several."""
    name = Path(bundle.manifest.architecture.partition(":")[0]).stem
    return f"{name}, {bundle.output}" if bundle.output else name


def settings_of(session: Session) -> dict[str, str]:
    """Method, backend and every number of the adaptation."""
    setup = session.setup
    numbers = setup.settings.model_dump().items()
    return {
        "method": f"{setup.method.name}, {'view pair' if setup.views == 'pair' else 'single view'}",
        "backend": setup.backend_name,
        "head": "PyTorch" if setup.options.head == "torch" else "in the backend",
        "settings": ", ".join(f"{name} {value}" for name, value in numbers),
    }


def settings_of_several(sessions: Mapping[str, Session]) -> dict[str, str]:
    """`settings_of` the outputs of a camera: once what all of them have, the rest by output."""
    told = {output: settings_of(session) for output, session in sessions.items()}
    first = next(iter(told.values()))
    rows = {}
    for name, value in first.items():
        if all(each[name] == value for each in told.values()):
            rows[name] = value
        else:
            rows |= {f"{name} of {output}": each[name] for output, each in told.items()}
    return rows


def machine_facts() -> dict[str, str]:
    """Hardware and versions of this machine; see `ocl_edge_app.doctor.machine`."""
    machine = describe_machine()
    versions = {"ocl-edge": machine.hardware["ocl-edge"], "python": machine.hardware["python"].split()[0]}
    versions |= {name: version for name, version in machine.libraries.items() if version}
    hardware = {name: value for name, value in machine.hardware.items() if name not in NOT_THE_MACHINE}
    if "GPU 0" not in hardware:
        hardware["nvidia driver"] = "none that works"
    return {**hardware, "versions": ", ".join(f"{name} {version}" for name, version in versions.items())}
