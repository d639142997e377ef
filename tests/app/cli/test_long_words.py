"""Words of any length are refused in a line: numbers of thousands of digits, names that no file can have."""

from __future__ import annotations

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run

DIGITS, LETTERS = "9" * 5000, "a" * 300


@pytest.mark.parametrize(
    "words",
    [
        ("run", "BUNDLE", "--source", "x", "--norm-every", DIGITS),
        ("run", "BUNDLE", "--source", "x", "--adapt-every", DIGITS),
        ("run", "BUNDLE", "--source", "x", "--mask-size", f"{DIGITS}x5"),
        ("run", "BUNDLE", "--source", DIGITS),
        ("run", "BUNDLE", "--source", LETTERS),
        ("profile", "BUNDLE", "--frame-size", f"5x{DIGITS}"),
        ("profile", "BUNDLE", "--source", LETTERS),
        ("export", "model.pth", "--input-size", f"{DIGITS}x5"),
        ("evaluate", "BUNDLE", "--frames", LETTERS, "--labels", LETTERS),
    ],
)
def test_long_words_are_wrong_usage(
    small_bundle: Bundle, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([str(small_bundle.path) if word == "BUNDLE" else word for word in words])
    said = capsys.readouterr().err
    assert code == 2, said[:300]
    assert "fault of ocl-edge" not in said
