"""``ocl-edge evaluate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocl_edge_app.cli.bundles import bundle_argument, open_outputs
from ocl_edge_app.cli.options import (
    FiniteRange,
    backend_option,
    html_option,
    label_classes_option,
    label_map_option,
    opening_option,
    parse_json,
    parse_seeds,
    prior_option,
    quiet_option,
    threads_option,
)
from ocl_edge_app.cli.passes import opened_runner, runner_options, threads_of

if TYPE_CHECKING:
    from ocl_edge_app.evaluation.plan import Asked, Planned
    from ocl_edge_app.evaluation.what_is_scored import Named

EXAMPLES = """
\b
Examples:
  ocl-edge evaluate bundle --frames images/ --labels labels/
  ocl-edge evaluate bundle --frames images/ --labels labels/ --label-map map.json \\
      --label-classes classes.json --methods frozen,norm,ocl-head --corruption clean \\
      --corruption fog:3 --seeds 0,1,2 --json results.json
  ocl-edge evaluate bundle --frames images/ --labels labels/ --stream-fps 5 --html report.html
  ocl-edge evaluate two-tasks --frames images/ --labels 'labels-{output}' --json '{output}.json'
"""


@click.command(epilog=EXAMPLES, short_help="Measure what adaptation gains on labelled footage.")
@bundle_argument
@click.option("--frames", metavar="DIR|GLOB|URL", help="Images, read in order of name.")
@click.option(
    "--dataset",
    metavar="NAME:DIR|URL[:SPLIT]",
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
    metavar="DIR|URL",
    help="Directory of class maps, NAME.png for each frame. A frame without a map is an error; "
    "a map without a frame is ignored. With several outputs {output} in it is their name.",
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
    "--seeds",
    default="0",
    show_default=True,
    callback=parse_seeds,
    help="Random seeds for stochastic restoration, e.g. 0,1,2.",
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
@runner_options
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
    engine: str,
    address: str | None,
    json_path: str | None,
    html_path: Path | None,
    **asked_for: Any,
) -> None:
    """Run methods over labelled frames and compare them. Each mask is scored before its own update."""
    from ocl_edge_app.cli.evaluate_output import announce, once_a_file, show, write_html
    from ocl_edge_app.cli.evaluate_places import places_of
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import emit_json, note
    from ocl_edge_app.evaluation.passes import run_passes
    from ocl_edge_app.evaluation.plan import plan
    from ocl_edge_app.report.evaluated import Evaluated

    threads = threads_of(engine, asked_for["threads"])
    use_threads(threads)
    with opened_runner(engine, address) as runner:
        named, asked = taken_apart({**asked_for, "threads": threads})
        bundles = open_outputs(bundle)
        if len(bundles) == 1:  # one output of several is as good as any bundle
            bundles = {"": next(iter(bundles.values()))}
        places = places_of(bundles, named, json_path, html_path)
        plans = {
            output: plan(bundles[output], each.named, {"": asked}, each.results, output)
            for output, each in places.items()
        }
        tell_doubts(plans.values())
        passes = [each for planned in plans.values() for each in planned.passes]
        if finished := sum(each.done for each in passes):
            note(f"{finished} of {len(passes)} passes are finished in {json_path} already")
        with announce(len(passes), sum(each.frames_to_come for each in plans.values())) as on_pass:
            run_passes(passes, runner, on_pass, once_a_file())
    told = {}
    for output, planned in plans.items():
        evaluation, evaluated = planned.evaluation, Evaluated.of(planned)
        evaluation.facts["rows"] = [asdict(row) for row in evaluated.rows]
        evaluation.save()
        told[output] = evaluation.content()
        if (html := places[output].html) is not None:
            write_html(html, planned, evaluated)
        if json_path != "-":
            show(evaluated.rows, output)
    if json_path == "-":
        emit_json("-", told.get("", {"outputs": told}))


def taken_apart(values: Mapping[str, Any]) -> tuple[Named, Asked]:
    """The verb's options, by the names of its parameters: those that name frames, and what is compared."""
    from ocl_edge_app.evaluation.plan import Asked
    from ocl_edge_app.evaluation.what_is_scored import Named

    return (
        Named(**{each.name: values[each.name] for each in fields(Named)}),
        Asked(**{each.name: values[each.name] for each in fields(Asked)}),
    )


def tell_doubts(plans: Iterable[Planned]) -> None:
    """What looks wrong about labels, and how far a bundle can tell home from away, once each."""
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.session.setup import notes_on

    words: dict[str, None] = {}
    for each in plans:
        if (doubt := each.scored.frames.doubt(each.scored.space)) is not None:
            words[doubt] = None
        for one in each.passes:
            words |= dict.fromkeys(notes_on(each.scored.bundle, one.trial.options))
    for word in words:
        note(word)
