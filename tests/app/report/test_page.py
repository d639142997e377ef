"""The page, its blocks and its pictures."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.errors import OutputError
from ocl_edge.timings import STAGES
from ocl_edge_app import report as report_package
from ocl_edge_app.pictures import mask_from_text, mask_to_text, shrunk
from ocl_edge_app.report import (
    Cell,
    Example,
    Examples,
    Facts,
    Figure,
    Lines,
    Page,
    Picture,
    Section,
    Series,
    Table,
    Text,
    Tile,
    Tiles,
    mask_uri,
    photo_uri,
    render_page,
    write_page,
)
from ocl_edge_app.report.stages import STAGE_COLOURS, stage_blocks
from tests.app.html_rules import checked
from tests.doubles.images import random_image

HOSTILE = """</style></title><script>alert(1)</script><img src=x onerror=alert('"&')>"""
PALETTE = [(128, 64, 128), (0, 0, 255), (255, 255, 255)]
STYLE = (Path(report_package.__file__).parent / "templates" / "style.css").read_text("utf-8")


def decoded(uri: str) -> Image.Image:
    kind, _, content = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert kind == f"data:image/{image.format.lower()}"
    return image


def test_an_empty_page_and_an_empty_section_are_whole() -> None:
    page = checked(render_page(Page("Nothing", [Section("Empty", [])])))
    assert "Nothing" in page.text
    assert "Empty" not in page.text


def test_every_block_shows_its_content_and_escapes_it() -> None:
    given: list[str] = []

    def hostile(name: str) -> str:
        given.append(f"{HOSTILE} {name}")
        return given[-1]

    picture = Picture(hostile("picture"), photo_uri(random_image(0)), hostile("caption of it"))
    curve = Lines(hostile("plot"), hostile("y"), [Series(hostile("series"), [1.0, 2.0], 1)], hostile("x"))
    cells = [[hostile("first cell"), Cell(hostile("cell"), "good")], [Cell(hostile("plain")), None]]
    blocks = [
        Tiles([Tile(hostile("value"), hostile("label"), hostile("detail"))]),
        Text(hostile("text")),
        Facts({hostile("fact"): hostile("its value")}),
        Table(hostile("table"), [hostile("column"), "n"], cells, note=hostile("note")),
        Table("empty", ["a", "b"], []),
        Figure(curve, hostile("caption")),
        Examples([Example(hostile("example"), [picture])], {hostile("class"): (1, 2, 3)}, hostile("how")),
    ]
    top = [Tile("1", hostile("top tile"))]
    sections = [Section(hostile("section"), blocks)]
    page = checked(render_page(Page(hostile("page"), sections, hostile("lead"), top)))
    assert [words for words in given if words not in page.text] == []


def test_a_page_asks_for_nothing() -> None:
    html = render_page(Page("Page", [Section("Facts", [Facts({"a": 1})])]))
    assert re.findall(r"https?://", html) == []
    assert "default-src 'none'" in html


def test_every_class_of_a_drawing_is_in_the_style_sheet() -> None:
    blocks = stage_blocks({"all": dict.fromkeys(STAGES, 1.0)})
    used = set(re.findall(r'class="area (\w+)"', render_page(Page("P", [Section("S", blocks)]))))
    assert used == set(STAGE_COLOURS.values())
    colours = set(re.findall(r"--(\w+): #", STYLE))
    assert used <= colours
    listed = re.search(r"for name in \[(.*?)\]", STYLE)
    assert listed is not None
    assert used <= set(re.findall(r'"(\w+)"', listed[1]))


def relative_luminance(colour: str) -> float:
    """WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((relative_luminance(one), relative_luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_text_and_series_stand_out_in_both_themes(theme: int) -> None:
    colours = dict(re.findall(r"--(\w+): (#\w{6})", re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[theme]))
    for name in ("ink", "soft", "accent", "good", "bad"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in ("s0", "s1", "s2", "s3", "s4", "s5", "s6", "mask2", "kept", "undone", "late"):
        assert contrast(colours[name], colours["paper"]) >= 3, name


def test_a_page_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    page = Page("Page", [])
    write_page(page, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == render_page(page)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_page(page, tmp_path / "taken")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.html", "taken"]
    with pytest.raises(OutputError, match="No such file"):
        write_page(page, tmp_path / "nowhere" / "page.html")


def test_pictures_are_small_and_keep_their_classes() -> None:
    mask = np.random.default_rng(0).integers(0, 4, (300, 1000), dtype=np.uint8)
    small = decoded(mask_uri(mask, PALETTE))
    assert small.size == (420, 126)
    assert {colour for _, colour in small.convert("RGB").getcolors()} == {*PALETTE, (0, 0, 0)}
    photo = decoded(photo_uri(random_image(0, 300, 1000)))
    assert (photo.size, photo.mode) == ((420, 126), "RGB")
    assert decoded(photo_uri(random_image(0))).size == (50, 40)


def test_a_mask_survives_its_way_through_text() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    assert np.array_equal(mask_from_text(mask_to_text(mask)), mask)
    for wrong in ("", "no base64", mask_to_text(random_image(0))):
        with pytest.raises(ValueError, match=r"class map|base64|padding"):
            mask_from_text(wrong)


def test_masks_of_many_classes_keep_theirs_in_pictures_and_text() -> None:
    mask = np.random.default_rng(0).integers(0, 900, (30, 1000), dtype=np.uint16)
    assert np.array_equal(mask_from_text(mask_to_text(mask)), mask)
    assert shrunk(mask).dtype == np.uint16
    palette = [(index % 256, index // 256, 7) for index in range(900)]
    picture = np.array(decoded(mask_uri(mask[:, :400], palette)))
    assert np.array_equal(picture[..., 0] + 256 * picture[..., 1].astype(int), mask[:, :400])


def test_shrinking_a_mask_makes_no_new_class() -> None:
    mask = np.where(np.indices((200, 900)).sum(0) % 3 == 0, 7, 2).astype(np.uint8)
    assert set(np.unique(shrunk(mask))) == {2, 7}
