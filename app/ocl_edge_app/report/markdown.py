"""A report as Markdown: its words, numbers and tables; figures and pictures are in the HTML alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocl_edge._version import __version__
from ocl_edge.plain_text import plain
from ocl_edge_app.report.page import Block, Cell, Facts, Page, Table, Text


def page_as_markdown(page: Page) -> str:
    """The page as GitHub's Markdown; what strangers wrote is text there, too."""
    lines = [f"# {_text(page.title)}", "", _text(page.lead), ""]
    for tile in page.tiles:
        lines.append(f"* **{_text(tile.value)}** {_text(tile.label)}: {_text(tile.detail)}")
    for section in page.sections:
        blocks = [line for block in section.blocks for line in _block(block)]
        if blocks:
            lines += ["", f"## {_text(section.title)}", *blocks]
    return "\n".join([*lines, "", f"Written by ocl-edge {__version__}.", ""])


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        yield from ("", _text(block.text))
    elif isinstance(block, Facts):
        yield ""
        yield from _rows(("", ""), [(name, str(value)) for name, value in block.rows.items()], 2)
    elif isinstance(block, Table):
        yield from ("", f"### {_text(block.title)}", "")
        yield from _rows(block.header, block.rows, block.text_columns)
        if block.note:
            yield from ("", _text(block.note))


def _rows(
    header: Sequence[str], rows: Sequence[Sequence[str | Cell | None]], text_columns: int
) -> Iterator[str]:
    yield _row(header)
    yield _row(["---" if column < text_columns else "--:" for column in range(len(header))], escaped=True)
    for row in rows:
        yield _row([_cell(cell) for cell in row], escaped=True)


def _cell(cell: str | Cell | None) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Cell):
        return f"**{_text(cell.text)}**" if cell.tone == "strong" else _text(cell.text)
    return _text(cell)


def _row(cells: Sequence[str], escaped: bool = False) -> str:
    return f"| {' | '.join(cells if escaped else map(_text, cells))} |"


def _text(text: str) -> str:
    """One line in which nothing is markup."""
    line = " ".join(plain(text, longest=None).split())
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in line)
