"""``ocl-edge evaluate``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocl_edge_app.cli.bundles import bundle_argument, open_bundle
from ocl_edge_app.cli.options import (
    SEEDS,
    FiniteRange,
    backend_option,
    html_option,
    label_classes_option,
    label_map_option,
    opening_option,
    parse_json,
    prior_option,
    quiet_option,
    threads_option,
)

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.method.norms import Prior
    from ocl_edge_runtime.session.options import OpeningKind, SessionOptions

EXAMPLES = """
\b
Examples:
  ocl-edge evaluate bundle --frames images/ --labels labels/
  ocl-edge evaluate bundle --frames images/ --labels labels/ --label-map map.json \\
      --label-classes classes.json --methods frozen,norm,ocl-head --corruption clean \\
      --corruption fog:3 --seeds 0,1,2 --json results.json
  ocl-edge evaluate bundle --frames images/ --labels labels/ --stream-fps 5 --html report.html
"""


@click.command(epilog=EXAMPLES, short_help="Measure what adaptation gains on labelled footage.")
@bundle_argument
@click.option("--frames", metavar="DIR|GLOB", help="Images, read in order of name.")
@click.option(
    "--dataset",
    metavar="NAME:DIR[:SPLIT]",
    help="Instead of --frames and --labels: cityscapes, acdc (night/val is one condition), bdd100k, kitti, "
    "gta5 or camvid as they are laid out, or pairs:FILE with an image and its labels on each line.",
)
@click.option(
    "--as-published",
    is_flag=True,
    help="Score as the OCL paper did: frames and labels at 1024x512, and only classes that the network has.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Directory of class maps, NAME.png for each frame. A frame without a map is an error; "
    "a map without a frame is ignored.",
)
@label_map_option
@label_classes_option
@click.option(
    "--methods",
    default="frozen,norm,ocl-head",
    show_default=True,
    help="Methods to compare: frozen, norm, ocl-head, ocl-norm, ocl-full, tent, tent-head; of other papers "
    "adabn, tent-published, cotta, eata, sar, rotta, diga, ocl-published.",
)
@click.option(
    "--views",
    type=click.Choice(["single", "pair"]),
    default="pair",
    show_default=True,
    help="Views of the frozen network; adapting methods always average the pair.",
)
@click.option(
    "--corruption",
    "corruptions",
    multiple=True,
    metavar="NAME:SEVERITY",
    help="Evaluate on these frames with a synthetic corruption; clean leaves them as they are (default). "
    "Repeatable.",
)
@backend_option
@prior_option
@click.option(
    "--lr", type=FiniteRange(min=0), help="Learning rate of every method. Default: each method's own."
)
@click.option(
    "--restoration",
    type=FiniteRange(0, 1),
    help="Restoration probability of every method. Default: each method's own.",
)
@click.option(
    "--seeds", default="0", show_default=True, help="Random seeds for stochastic restoration, e.g. 0,1,2."
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Passes over the frames in a row, to see forgetting or collapse. The last pass counts.",
)
@click.option(
    "--stream-fps",
    type=FiniteRange(min=0, min_open=True),
    help="Let frames arrive at this rate; a frame that finds the method busy gets its latest mask.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Play every frame so many times in a row, at so many times the rate, as from a faster camera.",
)
@opening_option
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many frames.")
@threads_option
@click.option(
    "--json",
    "json_path",
    callback=parse_json,
    metavar="FILE",
    help="Write the results as JSON after every pass; a killed evaluation resumes from this file. "
    "- is standard output.",
)
@html_option
@quiet_option
def evaluate(
    bundle: Path,
    frames: str | None,
    dataset: str | None,
    labels: Path | None,
    label_map: Path | None,
    label_classes: Path | None,
    as_published: bool,
    methods: str,
    views: str,
    corruptions: tuple[str, ...],
    backend: str,
    prior: Prior | None,
    lr: float | None,
    restoration: float | None,
    seeds: str,
    rounds: int,
    stream_fps: float | None,
    repeat: int,
    opening: OpeningKind | None,
    limit: int | None,
    threads: int | None,
    json_path: str | None,
    html_path: Path | None,
) -> None:
    """Run methods over labelled frames and compare them. Each mask is scored before its own update."""
    from ocl_edge_app.cli.evaluate_output import announce, once_a_file, show, write_html
    from ocl_edge_app.cli.options import opening_or_auto, use_threads
    from ocl_edge_app.cli.output import emit_json, note
    from ocl_edge_app.evaluation import grid, summary
    from ocl_edge_app.evaluation.corruption import parse_corruption
    from ocl_edge_app.evaluation.what_is_scored import Named, find_what_is_scored
    from ocl_edge_app.report.evaluated import Evaluated
    from ocl_edge_app.report.what_ran import network_name

    use_threads(threads)
    streams = [parse_corruption(text) for text in corruptions or ("clean",)]
    opened = open_bundle(bundle)
    named = Named(dataset, frames, labels, label_map, label_classes, as_published, limit)
    labelled, space, palette = find_what_is_scored(named, opened.manifest)
    if (doubt := labelled.doubt(space)) is not None:
        note(doubt)
    chosen = _options(methods, views, backend, (prior, lr, restoration), seeds, threads)
    frame_s = 1 / ((stream_fps or 1.0) * repeat)
    chosen = [replace(options, opening=opening_or_auto(opening), frame_s=frame_s) for options in chosen]
    chosen = _with_backend(opened, chosen, threads)
    _tell_notes(opened, chosen)
    trials = [
        grid.Trial(
            options, options.settings_over(opened.manifest.adaptation), stream, rounds, stream_fps, repeat
        )
        for stream in streams
        for options in chosen
    ]
    evaluation = grid.Evaluation(
        grid.context_of(opened, labelled, space),
        {"bundle": opened.identity, "frames": len(labelled), "classes": list(space.names)},
        Path(json_path) if json_path and json_path != "-" else None,
    )
    evaluation.resume()
    waiting = sum(trial.key(evaluation.context) not in evaluation.cells for trial in trials)
    if waiting < len(trials):
        note(f"{len(trials) - waiting} of {len(trials)} passes are finished in {json_path} already")
    with announce(len(trials), waiting * rounds * len(labelled)) as on_trial:
        grid.run_trials(evaluation, opened, labelled, space, trials, on_trial, once_a_file())
    groups = summary.grouped(evaluation, trials)
    rows = summary.summarise(groups, space)
    evaluation.facts["rows"] = [asdict(row) for row in rows]
    evaluation.save()
    if html_path:
        by_name = {str(stream): stream for stream in streams}
        evaluated = Evaluated(network_name(opened), groups, by_name, labelled, space, palette)
        write_html(html_path, evaluated, opened, trials, evaluation)
    if json_path == "-":
        emit_json("-", evaluation.content())
    else:
        show(rows)


def _options(
    methods: str,
    views: str,
    backend: str,
    overrides: tuple[Prior | None, float | None, float | None],
    seeds: str,
    threads: int | None,
) -> list[SessionOptions]:
    from ocl_edge.errors import UsageError
    from ocl_edge.method.methods import find_method
    from ocl_edge_runtime.session.options import SessionOptions

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise UsageError(f"--seeds {seeds}: expected whole numbers, as in 0,1,2") from None
    if any(number not in SEEDS for number in numbers):
        raise UsageError(f"--seeds {seeds}: expected numbers from 0 to {SEEDS.stop - 1}")
    chosen = [find_method(name.strip()) for name in methods.split(",")]
    return [
        SessionOptions(
            method.name,
            views if method.name == "frozen" else None,  # type: ignore[arg-type]
            "torch" if method.needs_pytorch_backbone else backend,
            *overrides,
            seed,
            threads,
        )
        for method in chosen
        for seed in (numbers if method.learns else numbers[:1])
    ]


def _with_backend(bundle: Bundle, chosen: list[SessionOptions], threads: int | None) -> list[SessionOptions]:
    """The options with the backend that ``auto`` takes here: a pass of another one is another pass."""
    from ocl_edge_runtime.backends import open_backend

    if all(options.backend != "auto" for options in chosen):
        return chosen
    backend = open_backend(bundle, "auto", threads).backend
    backend.close()
    return [
        replace(options, backend=backend.name) if options.backend == "auto" else options for options in chosen
    ]


def _tell_notes(bundle: Bundle, chosen: list[SessionOptions]) -> None:
    """What the user should know of how far the bundle can tell home from away, once."""
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.session.setup import notes_on

    for words in dict.fromkeys(words for options in chosen for words in notes_on(bundle, options)):
        note(words)
