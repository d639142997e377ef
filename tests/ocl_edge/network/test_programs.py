from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.errors import BundleError
from ocl_edge.network.programs import load_program, refuse_pickles, save_program


def test_no_program_of_a_bundle_holds_a_pickle_or_a_path(small_bundle: Bundle) -> None:
    for name in ("backbone.pt2", "head.pt2"):
        refuse_pickles(small_bundle.file(name))
        with zipfile.ZipFile(small_bundle.file(name)) as archive:
            content = b"".join(archive.read(member) for member in archive.namelist())
        assert str(Path(__file__).parents[3]).encode() not in content
        assert b"small_network.py" not in content


def test_an_archive_with_sample_inputs_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(nn.Conv2d(3, 2, 1), (torch.zeros(1, 3, 4, 4),))
    torch.export.save(program, tmp_path / "unsafe.pt2")
    with pytest.raises(BundleError, match=r"sample_inputs.*never loaded"):
        load_program(tmp_path / "unsafe.pt2")


def test_a_pickled_weight_is_refused(tmp_path: Path) -> None:
    save_program(torch.export.export(nn.Conv2d(3, 2, 1), (torch.zeros(1, 3, 4, 4),)), tmp_path / "safe.pt2")
    with (
        zipfile.ZipFile(tmp_path / "safe.pt2") as safe,
        zipfile.ZipFile(tmp_path / "unsafe.pt2", "w") as unsafe,
    ):
        for member in safe.infolist():
            content = safe.read(member)
            if member.filename.endswith("_weights_config.json"):
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            unsafe.writestr(member, content)
    load_program(tmp_path / "safe.pt2")
    with pytest.raises(BundleError, match="stored as a pickle"):
        load_program(tmp_path / "unsafe.pt2")


def test_something_else_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("hello")
    with pytest.raises(BundleError, match="is not a"):
        load_program(tmp_path / "text.pt2")


def test_a_loaded_head_trains_at_any_batch_size(small_bundle: Bundle) -> None:
    head = load_head(small_bundle)
    assert {name: p.requires_grad for name, p in head.named_parameters()} == {
        "classifier.weight": True,
        "classifier.bias": True,
    }
    for batch in (1, 3):
        assert head(torch.zeros(batch, *small_bundle.manifest.features[0]))[0].shape[0] == batch
