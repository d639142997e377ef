"""The results of the fleet's bench: lines of JSON, and the tables that the documentation shows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_lines(results: Path) -> list[dict[str, Any]]:
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()]


def append(results: Path, line: dict[str, Any]) -> None:
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def table(results: Path, weathers: Iterable[str]) -> None:
    columns = (*weathers, "all")
    lines = read_lines(results)
    by_row = {line["row"]: line for line in lines}
    print("| mIoU %, first 30 frames | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for line in lines:
        if line["miou"]:
            print(f"| {line['row']} | " + " | ".join(f"{line['miou'][n]:.1f}" for n in columns) + " |")
    print("\n| vehicles that send poison | of them refused | others refused | what comes out |")
    print("|---|---|---|---|")
    for line in lines:
        if line.get("poisoned"):
            best = by_row["fleet"]["miou"]["all"]
            same = "the heads of the others, bit for bit"
            said = same if line["as_without_them"] else f"{line['miou']['all'] - best:+.1f} points of mIoU"
            refused = f"{line['poison_refused']} | {line['honest_refused']}"
            print(f"| {line['poisoned']}, {line['poison']} | {refused} | {said} |")
