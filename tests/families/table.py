"""The families as a table in Markdown: python -m tests.families.table RESULTS.jsonl"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = (
    "| family | weights, million | norms | export: s, of them the processor's, GB at most "
    "| other classes, % of pixels: OpenVINO, ONNX Runtime, PyTorch | frames learned from, each backend "
    "| TensorRT-RTX | mask, realtime over frozen |\n|---|---|---|---|---|---|---|---|"
)
BACKENDS = ("openvino", "onnxruntime", "torch")


def row(found: dict[str, Any]) -> str:
    """One family."""
    percent = {name: f"{100 * share:.2f}" for name, share in found["differs"].items()}
    cells = [
        named(found["spec"]),
        f"{found['weights'] / 1e6:.2f}",
        str(found["norms"]),
        f"{found['export_s']:.0f}, {found['export_cpu_s']:.0f}, {found['peak_mb'] / 1000:.1f}",
        ", ".join(percent.get(name, "passed over") for name in BACKENDS),
        ", ".join(str(found["learned"].get(name, "passed over")) for name in BACKENDS),
        "compiled" if found["engines"] == "compiled" else found["engines"].splitlines()[-1].strip(),
        f"{found['realtime_over_frozen']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def named(spec: str) -> str:
    """What stands after ``--arch``, without where it lay and how many classes there were."""
    library, _, rest = spec.partition(":")
    if library == "transformers":
        return f"`transformers:` {Path(rest).name}"
    if "/doubles/" in library:
        return f"ours, after {rest}"
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
