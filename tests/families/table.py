"""The families as a table in Markdown: python -m tests.families.table RESULTS.jsonl"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = (
    "| family | weights, million | norms | export, s | peak, GB | other classes, % of pixels: OpenVINO, "
    "ONNX Runtime, PyTorch | mask, realtime over frozen |\n|---|---|---|---|---|---|---|"
)


def row(found: dict[str, Any]) -> str:
    """One family."""
    differs = ", ".join(
        f"{100 * found['differs'][name]:.2f}" if name in found["differs"] else "passed over"
        for name in ("openvino", "onnxruntime", "torch")
    )
    cells = [
        named(found["spec"]),
        f"{found['weights'] / 1e6:.1f}",
        str(found["norms"]),
        f"{found['export_s']:.0f}",
        f"{found['peak_mb'] / 1000:.1f}",
        differs,
        f"{found['realtime_ms'] / found['frozen_ms']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def named(spec: str) -> str:
    """What stands after ``--arch``, without where it lay and how many classes there were."""
    library, _, rest = spec.partition(":")
    if library == "transformers":
        return f"`transformers:` {Path(rest).name}"
    if "/" in library:
        return f"own code: {rest.replace('_', ' ')}"
    kept = [part for part in rest.split(",") if "classes=" not in part]
    kept = ["a head of one's own" if part.startswith("head=") else part for part in kept]
    return f"`{library}:{', '.join(kept)}`"


def main(file: str) -> None:
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    sys.stdout.write("\n".join([HEAD, *(row(json.loads(line)) for line in lines)]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
