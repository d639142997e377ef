"""What every report must be: whole, closed, readable by everybody, and without a request."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}
SVG_DRAWING = {"path", "rect", "line", "circle", "polygon", "text", "g"}
ADDRESS_ATTRIBUTES = {"src", "href", "srcset", "action", "data", "xlink:href"}


class Checker(HTMLParser):
    """Parses a page and collects what is wrong with it, and what it shows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self._svg_without_title = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if len(given) != len(attributes):
            self.problems.append(f"<{tag}> has an attribute twice")
        self.tags.append((tag, given))
        if self._svg_without_title and tag != "title":
            self.problems.append("an svg does not begin with its title")
        self._svg_without_title = tag == "svg" and given.get("role") == "img"
        self._check(tag, given)
        if tag not in VOID:
            self.open.append(tag)

    def _check(self, tag: str, given: dict[str, str]) -> None:
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form"):
            self.problems.append(f"<{tag}>")
        self.problems += [f"{tag} {name}" for name in given if name.startswith("on")]
        for name in ADDRESS_ATTRIBUTES & given.keys():
            if name == "href" and given[name].startswith("#"):
                self.links.append(given[name][1:])
            elif not given[name].startswith("data:image/"):
                self.problems.append(f"{tag} {name}={given[name][:80]}")
        if tag == "img" and not given.get("alt"):
            self.problems.append("an image without a text")
        if tag == "svg" and given.get("aria-hidden") != "true" and not given.get("aria-label"):
            self.problems.append("an svg without a name")
        if tag in SVG_DRAWING and "svg" not in self.open:
            self.problems.append(f"<{tag}> outside of an svg")
        if "id" in given:
            self.ids.append(given["id"])
        for name, value in given.items():
            if tag in SVG_DRAWING and re.search(r"\b(nan|inf|None)\b", value):
                self.problems.append(f"{tag} {name}={value[:80]}")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        """Everything that a reader can read, spaces collapsed."""
        return " ".join(" ".join(self.words).split())


def checked(html: str) -> Checker:
    """The parsed page.

    Raises:
        AssertionError: it breaks a rule; all broken ones are listed.
    """
    checker = Checker()
    checker.feed(html)
    checker.close()
    problems = checker.problems + [f"<{tag}> is never closed" for tag in checker.open]
    problems += [f"id {each} twice" for each in set(checker.ids) if checker.ids.count(each) > 1]
    problems += [f"a link to #{link}, which is nowhere" for link in checker.links if link not in checker.ids]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    if style is None or "url(" in style[1] or "@import" in style[1]:
        problems.append("the style sheet is missing or asks for files")
    assert not problems, problems
    return checker
