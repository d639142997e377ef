"""How the pages are written: lines that fit a screen, sentences that begin with their subject."""

from __future__ import annotations

import re

import click
import pytest

from ocl_edge_app.cli import VERBS, cli
from tests.docs.docs_pages import PAGES, prose, read

LONGEST_LINE = 110
TURNED_AROUND = re.compile(
    r"(?:^|[.:;!?] |^\W+)((?:Of (?:the|an?)|Likewise|What|Which|For so)\b[^.?!]*[.?!]?)"
)
"""Sentences that begin with these keep the reader waiting for their subject; a question may."""


@pytest.mark.parametrize("page", PAGES)
def test_lines_fit_a_screen(page: str) -> None:
    """A row of a table is one line, however long."""
    long = [
        f"{page}:{number}: {len(line)} columns"
        for number, line in enumerate(read(page).splitlines(), 1)
        if len(line) > LONGEST_LINE and not line.startswith("|")
    ]
    assert long == []


@pytest.mark.parametrize("page", PAGES)
def test_sentences_of_a_page_begin_with_their_subject(page: str) -> None:
    assert [sentence for text in prose(page) for sentence in turned_around(text)] == []


@pytest.mark.parametrize("verb", VERBS)
def test_help_texts_begin_with_their_subject(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    texts = [VERBS[verb], command.help, command.short_help]
    texts += [p.help for p in command.params if isinstance(p, click.Option)]
    assert [text for text in texts if text and turned_around(text)] == []


def turned_around(text: str) -> list[str]:
    return [found for found in TURNED_AROUND.findall(text) if not found.endswith("?")]


def test_a_sentence_that_is_turned_around_is_found() -> None:
    assert turned_around("Of the restoration.")
    assert turned_around("It is small. What it lacks is shown.")
    assert turned_around("Likewise, or nothing.")
    assert not turned_around("What if the disk is full? Tell what it was, of the two.")
