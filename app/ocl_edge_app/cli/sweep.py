"""``ocl-edge sweep``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocl_edge_app.cli.bundles import open_bundle, signature_option
from ocl_edge_app.cli.options import json_option, quiet_option, threads_option
from ocl_edge_app.cli.passes import opened_runner, runner_options, threads_of

if TYPE_CHECKING:
    from ocl_edge_app.cli.sweep_file import Entry
    from ocl_edge_app.evaluation.compared import Compared, Total
    from ocl_edge_app.evaluation.plan import Planned

EXAMPLES = """
\b
Examples:
  ocl-edge sweep sweep.toml
  ocl-edge sweep sweep.toml --engine ray --out results
"""


@click.command(epilog=EXAMPLES, short_help="Compare bundles on streams, as a file lists them.")
@click.argument("file", metavar="FILE.toml", type=click.Path(path_type=Path))
@signature_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of results and report; a killed sweep goes on from there. Default: the file's name.",
)
@threads_option
@runner_options
@json_option
@quiet_option
def sweep(
    file: Path, out: Path | None, threads: int | None, engine: str, address: str | None, json_path: str | None
) -> None:
    """Run every bundle of a file on every stream of it, and compare them.

    The file holds [bundles], [streams.NAME], and the options of `ocl-edge evaluate`.
    """
    from ocl_edge_app.cli.evaluate import tell_doubts
    from ocl_edge_app.cli.evaluate_output import announce, once_a_file
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import emit_json, note
    from ocl_edge_app.cli.sweep_file import read_sweep
    from ocl_edge_app.evaluation.compared import compare, totals
    from ocl_edge_app.evaluation.passes import run_passes

    threads = threads_of(engine, threads)
    entries = read_sweep(file, threads)
    out = _made(out or Path(file.stem))
    use_threads(threads)
    with opened_runner(engine, address) as runner:
        plans = _plans(entries, out)
        tell_doubts(plans)
        passes = [one for each in plans for one in each.passes]
        if finished := sum(each.done for each in passes):
            note(f"{finished} of {len(passes)} passes are finished in {out} already")
        with announce(len(passes), sum(each.frames_to_come for each in plans)) as on_pass:
            run_passes(passes, runner, on_pass, once_a_file())
    rows = [
        row
        for entry, planned in zip(entries, plans, strict=True)
        for row in compare(planned, entry.bundle, entry.stream)
    ]
    _write_report(file, out, entries, plans, rows)
    if json_path is not None:
        found = {"rows": [row.as_dict() for row in rows], "totals": [asdict(each) for each in totals(rows)]}
        emit_json(json_path, found)
    if json_path != "-":
        _show(totals(rows))
        note(f"{out} holds the results of every pass, report.html and report.md")


def _made(out: Path) -> Path:
    """The directory of results.

    Raises:
        UsageError: it cannot be made, or written to.
    """
    from ocl_edge.errors import UsageError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be made: {error.strerror}") from error
    if not os.access(out, os.W_OK):
        raise UsageError(f"--out {out} cannot be written to; name a directory of yours")
    return out


def _plans(entries: list[Entry], out: Path) -> list[Planned]:
    """A plan for each entry, with what an earlier run has finished.

    Raises:
        UsageError: two entries are the same bundle on the same frames.
    """
    from ocl_edge.errors import UsageError
    from ocl_edge_app.evaluation.plan import plan

    bundles = {each.bundle: each.path for each in entries}
    opened = {name: open_bundle(path) for name, path in bundles.items()}
    plans: dict[str, Planned] = {}
    for each in entries:
        of = f"{each.bundle} on {each.stream}"
        path = out / f"{each.bundle}.{each.stream}.json"
        planned = plan(opened[each.bundle], each.named, each.points, path, of)
        if (twin := plans.setdefault(planned.evaluation.context, planned)) is not planned:
            raise UsageError(f"{of} is the same as {twin.of}: one bundle, one set of frames and labels")
    return list(plans.values())


def _write_report(
    file: Path, out: Path, entries: list[Entry], plans: list[Planned], rows: list[Compared]
) -> None:
    from ocl_edge import durable
    from ocl_edge_app.cli.options import command_line
    from ocl_edge_app.report import write_page
    from ocl_edge_app.report.markdown import page_as_markdown
    from ocl_edge_app.report.sweep_report import sweep_page

    bundles = {entry.bundle: planned.scored.bundle for entry, planned in zip(entries, plans, strict=True)}
    classes = {
        entry.stream: planned.scored.space.names for entry, planned in zip(entries, plans, strict=True)
    }
    page = sweep_page(file.name, command_line(), bundles, classes, rows)
    write_page(page, out / "report.html")
    durable.write_text(out / "report.md", page_as_markdown(page))


def _show(found: list[Total]) -> None:
    from ocl_edge_app.cli.output import print_table

    header = ["bundle", "method", "options", "mIoU %", "gain", "least %", "on", "ms/frame"]
    body = [
        [
            each.bundle,
            f"{each.method} ({each.views})",
            each.options,
            f"{each.miou:.2f}",
            "" if each.gain is None else f"{each.gain:+.2f}",
            f"{each.least:.1f}",
            each.least_on,
            f"{each.ms_per_frame:.0f}",
        ]
        for each in found
    ]
    print_table("mean of all streams", header, body, text_columns=(0, 1, 2, 6))
