"""README and docs/ as a test reads them: commands, Python, links, headings, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")),
)

SHELL = ("", "sh", "bash")
"""Blocks of these languages, and indented ones, hold commands and nothing else."""
NOT_RUN = ("text", "json", "toml", "math", "mermaid")
PROGRAMS = ("ocl-edge ", "python ", "make ", "pip ")
"""A code span that starts with one of these is a command too."""

_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Snippet:
    """A piece of a page and where it stands."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Table:
    """A table and the heading that it stands under; cells as Markdown."""

    heading: str
    header: list[str]
    rows: list[list[str]]


def commands(page: str) -> list[Snippet]:
    """Every command of the shell blocks, a line each; continued lines are joined."""
    found = []
    for block in _blocks(page):
        if block.type == "code_block" or block.info in SHELL:
            found += list(commands_of(block.content, page, _first_line(block)))
        else:
            assert block.info in ("python", *NOT_RUN), f"{page}: no rule for a block of {block.info!r}"
    return found


def commands_of(text: str, page: str, line: int) -> Iterator[Snippet]:
    """The commands of a shell text that starts on ``line`` of ``page``."""
    lines = text.splitlines()
    start = 0
    while start < len(lines):
        end = start
        while lines[end].endswith("\\"):
            end += 1
        command = " ".join(part.rstrip("\\").strip() for part in lines[start : end + 1])
        if command and not command.startswith("#"):
            yield Snippet(page, line + start, command)
        start = end + 1


def mentioned_commands(page: str) -> list[Snippet]:
    """Every command in a code span of running text."""
    return [
        Snippet(page, (block.map or [0])[0] + 1, span.content)
        for block in _PARSER.parse(read(page))
        for span in block.children or []
        if span.type == "code_inline" and span.content.startswith(PROGRAMS)
    ]


def python_blocks(page: str) -> list[Snippet]:
    """Every block of Python, in order."""
    return [
        Snippet(page, _first_line(block), block.content)
        for block in _blocks(page)
        if block.type == "fence" and block.info == "python"
    ]


def links(page: str) -> list[str]:
    """Targets of all links and pictures, HTML's included."""
    text = read(page)
    found = [
        str(span.attrs.get("href") or span.attrs.get("src"))
        for block in _PARSER.parse(text)
        for span in block.children or []
        if span.type in ("link_open", "image")
    ]
    return found + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)


def prose(page: str) -> list[str]:
    """Running text and cells of tables, Markdown included; no headings, no code."""
    tokens = _PARSER.parse(read(page))
    return [
        " ".join(token.content.split())
        for previous, token in pairwise(tokens)
        if token.type == "inline" and previous.type != "heading_open"
    ]


def headings(page: str) -> list[str]:
    """Text of all headings, Markdown included."""
    tokens = _PARSER.parse(read(page))
    return [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives the headings."""
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings(page)]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def tables(page: str) -> list[Table]:
    """All tables of a page."""
    found: list[Table] = []
    heading, cells = "", []
    previous = None
    for token in _PARSER.parse(read(page)):
        if token.type == "inline" and previous is not None:
            if previous.type == "heading_open":
                heading = token.content
            elif previous.type in ("th_open", "td_open"):
                cells.append(token.content)
        elif token.type == "tr_close":
            found[-1].rows.append(cells)
            cells = []
        elif token.type == "table_open":
            found.append(Table(heading, [], []))
        elif token.type == "thead_close":
            found[-1].header.extend(found[-1].rows.pop())
        previous = token
    return found


def code_spans(text: str) -> list[str]:
    """What stands between backticks in a line of Markdown, outside fenced blocks."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _blocks(page: str) -> list[Token]:
    return [token for token in _PARSER.parse(read(page)) if token.type in ("fence", "code_block")]


def _first_line(block: Token) -> int:
    start = (block.map or [0])[0] + 1
    return start + 1 if block.type == "fence" else start
