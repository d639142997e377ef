"""The page in headless Chromium: phone and desk, light and dark, a button that is pressed."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.views.address import Address
from ocl_edge_runtime.views.controls import Controls
from ocl_edge_runtime.views.picture import NewestPicture
from ocl_edge_runtime.views.stream_state import StreamState
from ocl_edge_runtime.views.web import ShownCamera, WebView
from tests.doubles.chromium import found_by_page, require_chromium
from tests.doubles.streams import SilentSource, frame, result

LONG_NAME = "a_camera_without_a_space_" * 4
CLASSES = [("road", (128, 64, 128)), ("<img src=x onerror=document.title='broken'>", (0, 0, 250))]

PROBE = """<script nonce="{{nonce}}">
const pause = ms => new Promise(done => setTimeout(done, ms));
(async () => {
  while (!document.querySelector("article img")?.naturalWidth) await pause(50);
  const found = {
    title: document.title,
    inner: innerWidth,
    scroll: document.documentElement.scrollWidth,
    beyond: [...document.body.querySelectorAll("*")].filter(
      each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 100)),
    buttons: [...document.querySelectorAll("article:first-child button")].map(
      each => [each.textContent, each.disabled, each.getBoundingClientRect().height]),
    facts: [...document.querySelectorAll("article:first-child dd")].map(each => each.textContent),
    classes: [...document.querySelectorAll("footer li")].map(each => each.textContent),
    paper: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
    requests: performance.getEntriesByType("resource").map(each => new URL(each.name).host || "blob"),
  };
  document.querySelector("article button").click();
  while (!document.querySelector("article:first-child button").disabled) await pause(50);
  found.said = document.querySelector("article .reason").textContent;
  const shown = document.createElement("pre");
  shown.id = "found";
  shown.textContent = JSON.stringify(found);
  document.body.append(shown);
})();
</script>
"""


@pytest.fixture
def session(small_bundle: Bundle) -> Iterator[Session]:
    require_chromium()
    with open_session(small_bundle, SessionOptions("frozen", threads=1)) as opened:
        yield opened


def browse(session: Session, width: int, theme: str, directory: Path) -> dict[str, Any]:
    """What the probe finds in the page of two cameras, while a loop goes on."""
    shown = {}
    for name in ("front", LONG_NAME):
        state, picture = StreamState(name, SilentSource()), NewestPicture([colour for _, colour in CLASSES])
        shown[name] = ShownCamera(state, picture, Controls(session))
    ended = threading.Event()

    def loop() -> None:
        index = 0
        while not ended.wait(0.05):
            index += 1
            for camera in shown.values():
                camera.picture.emit(frame(index, 64, index % 200), np.ones((64, 64), np.uint8))
                camera.state.add(result())
                camera.controls.carry_out()

    with WebView(Address("127.0.0.1", 0), shown, LONG_NAME, CLASSES) as view:
        view.page += PROBE
        worker = threading.Thread(target=loop)
        worker.start()
        try:
            found: dict[str, Any] = found_by_page(
                view.url, directory / "profile", theme, (width, 900), 20_000
            )
            return found
        finally:
            ended.set()
            worker.join()


def _found(url: str, width: int, theme: str, directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = found_by_page(url, directory / "profile", theme, (width, 900), 20_000)
    return found


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (500, "dark")])
def test_the_page_fits_shows_the_run_and_its_buttons_work(
    session: Session, width: int, theme: str, tmp_path: Path
) -> None:
    found = browse(session, width, theme, tmp_path)
    assert found["title"] == LONG_NAME
    assert found["scroll"] <= found["inner"] == width
    assert found["beyond"] == []
    assert [name for name, *_ in found["buttons"]] == ["freeze", "resume", "reset", "save"]
    assert [off for _, off, _ in found["buttons"]] == [False, True, False, True]
    assert min(height for *_, height in found["buttons"]) >= 44, "a finger needs as much"
    assert found["facts"][0] == "12.0 ms"
    assert found["classes"] == [name for name, _ in CLASSES], "names are text, whatever they hold"
    light = sum(map(int, re.findall(r"\d+", found["paper"])[:3])) > 3 * 128
    assert light == (theme == "light")
    assert found["said"].startswith("freeze: nothing is learned")
    assert session.paused
    hosts = set(found["requests"]) - {"blob"}
    assert len(hosts) == 1
    assert hosts.pop().startswith("127.0.0.1:")


def test_a_phone_shows_all_of_it(session: Session, tmp_path: Path) -> None:
    """Headless Chromium has no window under 500 px; the layout is measured in a frame of 360."""
    page = (Path(__file__).parents[3] / "runtime/ocl_edge_runtime/views/page.html").read_text("utf-8")
    style = re.search(r"<style[^>]*>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    buttons = "".join(f"<button>{name}</button>" for name in ("freeze", "resume", "reset", "save"))
    card = f"<article><div><h2>{LONG_NAME}</h2><div class=buttons>{buttons}</div></div></article>"
    inside = f"<style>{style[1]}</style><header><h1>{LONG_NAME}</h1></header><main>{card}</main>"
    outside = f"""<!doctype html>
      <iframe style="width:360px;height:900px;border:0" srcdoc="{html.escape(inside)}"></iframe>
      <pre id="found"></pre><script>onload = () => {{
        const page = document.querySelector("iframe").contentDocument;
        document.querySelector("#found").textContent = JSON.stringify({{
          scroll: page.documentElement.scrollWidth,
          beyond: [...page.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > 361).length,
          rows: new Set([...page.querySelectorAll("button")].map(e => e.offsetTop)).size,
        }});
      }}</script>"""
    file = tmp_path / "phone.html"
    file.write_text(outside, encoding="utf-8")
    found = _found(file.as_uri(), 1000, "light", tmp_path)
    assert found == {"scroll": 360, "beyond": 0, "rows": 1}
