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


def test_the_measurements_have_the_published_method_of_the_ablation() -> None:
    of_cells = next(t for t in tables("docs/ablation.md") if t.header[0] == "cell")
    (row,) = (row[1:] for row in of_cells.rows if row[0] == "norm + OCL all + restoration")
    *all_weights, last, mean = (score.split(" ")[0] for score in row)
    words = " ".join(read("docs/measurements.md").split())
    assert f"has {', '.join(all_weights)} and {last}, on the mean of the corruptions {mean}," in words


def test_the_readme_has_the_times_of_the_measurements() -> None:
    forms = next(t for t in tables("docs/measurements.md") if t.header[0].startswith("form of the backbone"))
    (measured,) = (row[1:] for row in forms.rows if row[0].startswith("measured"))
    openvino, onnx_runtime, cgnet_openvino, cgnet_onnx_runtime = measured
    words = " ".join(read("README.md").split())
    assert f"takes [{openvino} times as long as a frozen one](docs/measurements.md" in words
    assert f"and {onnx_runtime} times with ONNX Runtime" in words
    assert f"(CGNet {cgnet_openvino} and {cgnet_onnx_runtime}; one thread)" in words


def test_the_measurements_have_the_forms_times_of_the_hardware_page() -> None:
    forms = next(t for t in tables("docs/measurements.md") if t.header[0].startswith("form of the backbone"))
    timed = next(t for t in tables("docs/hardware.md") if "OpenVINO, before" in t.header)
    medians = {row[0]: [row[n].split(" ")[0].strip("*") for n in (2, 4)] for row in timed.rows}
    for row in forms.rows:
        form = row[0].split(":")[0]
        assert row[1:] == medians[f"ESPNetv2, {form}"] + medians[f"CGNet, {form}"]
