"""Networks after published ones, in training form: exported, run, and adapted by every backend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocl_edge.network.zoo import parse_spec
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from tests.doubles.published_kinds import (
    BACKENDS,
    BRANCHES,
    DECODERS,
    OUTPUTS,
    differs,
    learned,
    with_norms_of,
)

SIZE = (64, 96)
OTHERS: dict[str, tuple[str, set[str], int]] = {
    # the output that is taken, the others, the norms of the backbone
    f"{BRANCHES}:pidnet": ("1", {"0", "2"}, 50),
    f"{BRANCHES}:ddrnet": ("0", {"1"}, 40),
    f"{BRANCHES}:bisenetv2": ("0", {"1", "2", "3"}, 37),
    f"{BRANCHES}:fast_scnn": ("out", {"aux"}, 27),
    f"{DECODERS}:enet": ("", set(), 24),
    f"{DECODERS}:segnext": ("", set(), 14),
}


@pytest.mark.parametrize("spec", OTHERS)
def test_a_published_kind_goes_in_runs_and_adapts(spec: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = with_norms_of(parse_spec(spec).build().eval(), SIZE)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    bundle = export_bundle(
        ExportRequest(
            tmp_path / "net.pth", tmp_path / "out", arch=spec, input_size=SIZE, output=OUTPUTS.get(spec)
        )
    )
    manifest = bundle.manifest
    assert (manifest.output.name, set(manifest.output.others), len(manifest.norms)) == OTHERS[spec]
    assert manifest.unfit_backends == {}
    for backend in BACKENDS:
        assert differs(network, bundle, backend) <= 1e-3, backend
        assert learned(bundle, backend, frames=2) == 2, backend
