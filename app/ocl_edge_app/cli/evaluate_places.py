"""Where labels and results of each output lie: ``{output}`` in the places of ``ocl-edge evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocl_edge.errors import UsageError
from ocl_edge_app.cli.run_kept import OUTPUT, place_of

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.evaluation.what_is_scored import Named


@dataclass(frozen=True)
class Places:
    """Of one output.

    Attributes:
        named: frames and labels.
        results: file that keeps them; None: standard output, or none.
        html: of the report.
    """

    named: Named
    results: Path | None
    html: Path | None


def places_of(
    bundles: Mapping[str, Bundle], named: Named, json_path: str | None, html: Path | None
) -> dict[str, Places]:
    """By output, as the options say with the output's name in them.

    Args:
        bundles: every output by its name, which is empty where there is one.
        named: as on the command line, and so are the others.
        json_path: a file, or ``-``.
        html: of the report.

    Raises:
        UsageError: several outputs would have the same labels, or share a file of results.
    """
    results = Path(json_path) if json_path and json_path != "-" else None
    if len(bundles) > 1:
        labels = "--dataset" if named.dataset else "--labels"
        shared = {labels: named.dataset or named.labels, "--json": results, "--html": html}
        for option, place in shared.items():
            if place is not None and OUTPUT not in str(place):
                choice = " or ".join(each.named for each in bundles.values())
                raise UsageError(
                    f"{option} {place}: several outputs would share it; put {OUTPUT} into it, or take one: "
                    f"{choice}"
                )
    return {
        output: Places(
            replace(
                named,
                dataset=named.dataset and _of(named.dataset, output),
                labels=named.labels and _of(named.labels, output),
                label_map=named.label_map and Path(_of(str(named.label_map), output)),
                label_classes=named.label_classes and Path(_of(str(named.label_classes), output)),
            ),
            results and Path(_of(str(results), output)),
            html and Path(_of(str(html), output)),
        )
        for output in bundles
    }


def _of(place: str, output: str) -> str:
    return place_of(place, ("", output))
