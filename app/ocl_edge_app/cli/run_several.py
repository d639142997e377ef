"""``ocl-edge run`` with several cameras on one engine, several outputs of one network, or both."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.cli.run_kept import Kept, Of
    from ocl_edge_runtime.loop import RunReport
    from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
    from ocl_edge_runtime.session.outputs import Outputs
    from ocl_edge_runtime.several import Stream
    from ocl_edge_runtime.sources import Source, SourceOptions

NAMED = re.compile(r"([A-Za-z0-9_-]{1,40})=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Chosen:
    """How the frames of one source are run."""

    options: SessionOptions
    realtime: RealtimeOptions | None
    deadline_s: float | None


def name_cameras(sources: Sequence[str]) -> dict[str, str]:
    """Name of each camera -> its source: ``NAME=SOURCE``, else ``camera0`` and so on.

    A file that is called so is no name.

    Raises:
        UsageError: a name is given twice.
    """
    from ocl_edge.errors import UsageError

    named: dict[str, str] = {}
    for index, text in enumerate(sources):
        found = None if Path(text).exists() else NAMED.fullmatch(text)
        name, source = (found[1], found[2]) if found else (f"camera{index}", text)
        if name in named:
            raise UsageError(f"two cameras are called {name}; --source NAME=... names them")
        named[name] = source
    return named


def refuse_with_several(
    bundles: Mapping[str, Bundle],
    named: Mapping[str, str],
    method: str,
    kept: Kept,
    alone: Mapping[str, Path | None],
) -> None:
    """Refuse what several cameras, or outputs, would share, and what is for one of each.

    Args:
        bundles: outputs by name.
        named: cameras by name.
        method: its name.
        kept: what is asked for.
        alone: options that go with one camera and one output.
    """
    from ocl_edge.errors import UsageError
    from ocl_edge_app.cli.run_kept import CAMERA, OUTPUT
    from ocl_edge_runtime.session.opening_outputs import check_for_outputs

    several = {"cameras": CAMERA} if len(named) > 1 else {}
    kept.check_places({**several, **({"outputs": OUTPUT} if len(bundles) > 1 else {})})
    check_for_outputs(bundles, method)
    for option, given in alone.items():
        if given is None:
            continue
        if len(bundles) > 1:
            choice = " or ".join(bundle.named for bundle in bundles.values())
            raise UsageError(f"{option} is for one output; this run has {', '.join(bundles)}; {choice}")
        raise UsageError(f"{option} is for one camera; this run has {', '.join(named)}")


def run_several(
    bundles: Mapping[str, Bundle],
    named: Mapping[str, str],
    how: SourceOptions,
    choose: Callable[[Source], Chosen],
    share: Literal["nothing", "head"],
    kept: Kept,
    everything: ExitStack,
) -> None:
    """Run several cameras, or several outputs, or both, and show what each has done.

    Raises:
        UsageError: options that contradict each other.
        SourceError: a source failed; the others went on, and what was learned is kept.
    """
    from ocl_edge.errors import SourceError
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli import run_kept
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_runtime.service import Service

    if len(bundles) == 1:  # one output of several is as good as any bundle
        bundles = {"": next(iter(bundles.values()))}
    if len(named) == 1 and share == "nothing":
        ((only, source),) = named.items()
        kept, named = replace(kept, only=only), {"": source}
    recorders = {name: hooks.recorder(kept.html_path) for name in named}
    sources = {
        name: everything.enter_context(hooks.open_frames(text, how, None, recorders[name]))
        for name, text in named.items()
    }
    chosen = {name: choose(source) for name, source in sources.items()}
    cameras = _open(bundles, chosen, share, everything)
    first = next(iter(chosen.values()))
    use_threads(first.options.threads)
    for outputs in cameras.values():
        outputs.warm_up()
    hooks.tell(bundles.values(), first.options, next(iter(cameras.values())).lead)
    deadlines = {name: each.deadline_s for name, each in chosen.items()}
    with ExitStack() as running:
        sessions = {(name, output): each for name, of in cameras.items() for output, each in of.items()}
        watched = run_kept.watch(sessions, sources, recorders, kept, running)
        service = running.enter_context(Service())
        streams = run_kept.streams(watched, deadlines, kept, service, running)
        service.ready()
        reports = _run(cameras, sources, streams)
        for each in watched.values():
            each.at_the_end()
    run_kept.show(watched, reports, deadlines, kept)
    failed = {of[0]: r.source_failure for of, r in reports.items() if r.source_failure}
    if failed:
        raise SourceError("; ".join(f"{name}: {why}" if name else why for name, why in failed.items()))


def _open(
    bundles: Mapping[str, Bundle],
    chosen: Mapping[str, Chosen],
    share: Literal["nothing", "head"],
    everything: ExitStack,
) -> Mapping[str, Outputs]:
    """The outputs of each camera; a single one needs no copies of what the backbone gives."""
    from ocl_edge_runtime.session.cameras import open_cameras_of_outputs
    from ocl_edge_runtime.session.opening_outputs import open_outputs

    if len(chosen) == 1 and share == "nothing":
        ((name, only),) = chosen.items()
        return {name: everything.enter_context(open_outputs(bundles, only.options, only.realtime))}
    options = {name: each.options for name, each in chosen.items()}
    rules = {name: each.realtime for name, each in chosen.items() if each.realtime is not None}
    cameras = open_cameras_of_outputs(bundles, list(chosen), options, rules or None, share=share)
    return everything.enter_context(cameras)


def _run(
    cameras: Mapping[str, Outputs], sources: Mapping[str, Source], streams: Mapping[Of, Stream]
) -> dict[Of, RunReport]:
    from ocl_edge_app.cli.output import frame_progress
    from ocl_edge_runtime.session.cameras import Cameras
    from ocl_edge_runtime.several import run_cameras_of_outputs
    from ocl_edge_runtime.several_outputs import run_outputs

    of_each = {
        camera: {output: streams[camera, output] for output in outputs} for camera, outputs in cameras.items()
    }
    if isinstance(cameras, Cameras):
        reports = run_cameras_of_outputs(cameras, of_each)
    else:
        ((camera, outputs),) = cameras.items()
        with frame_progress(sources[camera].total) as progress:
            reports = {camera: run_outputs(outputs, sources[camera], of_each[camera], progress)}
    return {(camera, output): each for camera, of in reports.items() for output, each in of.items()}
