"""The reports in headless Chromium: 1280 and 360 px wide, light and dark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from tests.doubles.chromium import found_by_page, require_chromium
from tests.doubles.images import random_image

WIDTHS = (1280, 360)
LONG_NAME = "a_name_without_a_space_" * 8

PROBE = """
<!doctype html><meta charset="utf-8"><body style="margin:0"><script>
const reports = REPORTS, widths = WIDTHS, found = [];
async function look(name, width) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:4000px;border:0`;
  const loaded = new Promise(done => frame.onload = done);
  frame.srcdoc = reports[name];
  document.body.append(frame);
  await loaded;
  const page = frame.contentDocument, view = frame.contentWindow;
  const beyond = [...page.body.querySelectorAll("*")].filter(each =>
    !each.closest(".scroll table") && each.getBoundingClientRect().right > width + 1);
  const style = view.getComputedStyle(page.body);
  const letters = [...page.querySelectorAll("main svg text")].filter(each => each.getClientRects().length)
    .map(each => 12 * each.getScreenCTM().a);
  found.push({
    name, width,
    inner: view.innerWidth,
    scroll: page.documentElement.scrollWidth,
    beyond: beyond.map(each => each.outerHTML.slice(0, 120)),
    broken: [...page.images].filter(each => !each.naturalWidth).length,
    images: page.images.length,
    drawings: [...page.querySelectorAll("main svg[role]")].filter(each => each.getClientRects().length)
      .map(each => each.getAttribute("class")),
    letters: letters.length ? [Math.min(...letters), Math.max(...letters)] : [],
    requests: view.performance.getEntriesByType("resource").map(each => each.name).filter(
      each => !each.startsWith("data:")),
    ink: style.color, paper: style.backgroundColor,
  });
  frame.remove();
}
(async () => {
  for (const name in reports) for (const width of widths) await look(name, width);
  document.title = "done";
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.replaceChildren(result);
})();
</script>
"""


@pytest.fixture(scope="module")
def reports(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A report of each verb, with long names."""
    require_chromium()
    directory = tmp_path_factory.mktemp("reports")
    frames, labels = directory / LONG_NAME, directory / "labels"
    for folder in (frames, labels):
        folder.mkdir()
    for index in range(6):
        Image.fromarray(random_image(index)).save(frames / f"{LONG_NAME}{index}.png")
        stripes = np.tile(np.arange(50) // 17, (40, 1)).astype(np.uint8)
        Image.fromarray(stripes).save(labels / f"{LONG_NAME}{index}.png")
    (directory / "classes.json").write_text(json.dumps({"classes": [LONG_NAME, *"bcde"]}))
    bundle, written = str(small_bundle.path), directory / "report.html"
    verbs = {
        "run": ["--source", str(frames), "--fps", "300", "--mode", "paper"],
        "profile": ["--source", str(frames), "--frames", "4", "--warmup", "0"],
        "evaluate": ["--frames", str(frames), "--labels", str(labels), "--rounds", "2"],
    }
    verbs["evaluate"] += ["--label-classes", str(directory / "classes.json")]
    found = {}
    for verb, arguments in verbs.items():
        assert run([verb, bundle, *arguments, "--html", str(written), "--quiet"]) == 0
        found[verb] = written.read_text("utf-8")
    return found


def browse(pages: dict[str, str], theme: str, tmp_path: Path) -> list[dict[str, object]]:
    """What the probe found out about every page at every width."""
    probe = tmp_path / "probe.html"
    # a page must not end the script that carries it
    carried = json.dumps(pages).replace("<", "\\u003c")
    probe.write_text(PROBE.replace("REPORTS", carried).replace("WIDTHS", json.dumps(WIDTHS)))
    nobody = "--proxy-server=127.0.0.1:9"  # nobody is there: nothing leaves this machine
    found: list[dict[str, object]] = found_by_page(
        probe.as_uri(), tmp_path / "profile", theme, (1400, 1000), 60_000, nobody
    )
    assert len(found) == len(pages) * len(WIDTHS)
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_reports_fit_every_screen_and_ask_for_nothing(
    reports: dict[str, str], theme: str, tmp_path: Path
) -> None:
    for page in browse(reports, theme, tmp_path):
        where = f"{page['name']} at {page['width']} px, {theme}"
        assert page["inner"] == page["width"], where
        assert page["scroll"] <= page["width"], where
        assert page["beyond"] == [], where
        assert page["broken"] == 0, where
        assert (page["images"] > 0) == (page["name"] != "profile"), where
        assert set(page["drawings"]) == {"narrow" if page["width"] == 360 else "wide"}, where
        smallest, largest = page["letters"]
        assert smallest >= 10.5, where
        assert largest <= 16, where
        assert page["requests"] == [], where
        light = page["paper"] == "rgb(255, 255, 255)"
        assert light == (theme == "light"), where


def test_the_probe_sees_what_is_too_wide_and_what_is_asked_for(
    reports: dict[str, str], tmp_path: Path
) -> None:
    """The other test would fail on a page that deserves it."""
    bad = "<main><img src='http://reports.example/x.png' style='width:2000px;height:9px'></main>"
    for page in browse({"bad": bad}, "light", tmp_path):
        assert page["scroll"] > page["width"]
        assert page["broken"] == len(page["beyond"]) == 1
        assert page["requests"] == ["http://reports.example/x.png"]
