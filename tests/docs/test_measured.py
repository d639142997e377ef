"""The accuracies that the pages state are those of the recorded passes."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from tests.docs.docs_pages import ROOT, read, tables

RECORDED = ROOT / "bench" / "results" / "run.jsonl"


@pytest.fixture(scope="module")
def ablation() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "bench" / "ablation.py"))


def test_the_ablation_page_has_the_tables_of_the_recorded_passes(ablation: dict[str, Any]) -> None:
    page = read("docs/ablation.md")
    for table in ablation["tables"](RECORDED).split("\n\n"):
        assert table in page


def test_the_readme_has_the_numbers_of_the_ablation(ablation: dict[str, Any]) -> None:
    """Its rows are the columns of the ablation's table, in the same order."""
    of_cells = next(t for t in tables("docs/ablation.md") if t.header[0] == "cell")
    columns = {row[0]: row[1:] for row in of_cells.rows}
    readme = next(t for t in tables("README.md") if t.header[:2] == ["stream", "frozen"])
    for index, cell in enumerate(("frozen", "norm", "norm + OCL head + restoration")):
        assert [row[index + 1] for row in readme.rows] == columns[cell]
    *all_weights, last, mean = (score.split(" ")[0] for score in columns["norm + OCL all + restoration"])
    words = " ".join(read("README.md").split())
    assert f"has {', '.join(all_weights)} and {last}, on the mean of the corruptions {mean}," in words
