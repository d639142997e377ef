"""What a bundle of a stranger may say: it is checked where it is read, and nothing leaves its place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ocl_edge.bundle.reading import Bundle, load_head_weights, load_norms
from ocl_edge.errors import BundleError

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def copied(small_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle.path, tmp_path / "bundle"))


def manifest_of(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "manifest.json").read_text("utf-8"))
    return content


def change_manifest(bundle: Path, change: Change) -> None:
    content = manifest_of(bundle)
    change(content)
    (bundle / "manifest.json").write_text(json.dumps(content))


def rehash(bundle: Path, name: str) -> None:
    content = (bundle / name).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change_manifest(bundle, lambda m: m["files"].update({name: entry}))


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/hostname", "x/../../secret", "sub/file", ".", "..", "", ".hidden", "a\0b", "a\nb",
     "-rf", "manifest.json", "engines", "x" * 200, "\u202ename", "C:\\x"],
)  # fmt: skip
def test_only_plain_names_are_listed(copied: Path, name: str) -> None:
    (copied.parent / "secret").write_text("private")
    entry = {"sha256": hashlib.sha256(b"private").hexdigest(), "bytes": 7}
    change_manifest(copied, lambda m: m["files"].update({name: entry}))
    with pytest.raises(BundleError, match="files"):
        Bundle.open(copied)


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "socket"])
def test_what_is_no_file_is_refused_at_once(copied: Path, kind: str) -> None:
    for name in ("norms.safetensors", "manifest.json"):
        (copied / name).rename(copied / "aside")
        if kind == "pipe":
            os.mkfifo(copied / name)
        elif kind == "directory":
            (copied / name).mkdir()
        else:
            os.symlink("/dev/zero" if kind == "device" else "/dev/log", copied / name)
        with pytest.raises(BundleError, match=name):
            Bundle.open(copied)
        (copied / name).rmdir() if kind == "directory" else (copied / name).unlink()
        (copied / "aside").rename(copied / name)


def test_a_link_out_of_the_bundle_is_refused_and_one_inside_followed(copied: Path) -> None:
    outside = copied.parent / "outside"
    (copied / "norms.safetensors").rename(outside)
    os.symlink(outside, copied / "norms.safetensors")
    with pytest.raises(BundleError, match=r"norms.safetensors is a link to .*outside of the bundle.*cp -rL"):
        Bundle.open(copied)
    outside.rename(copied / "moved")
    (copied / "norms.safetensors").unlink()
    os.symlink("moved", copied / "norms.safetensors")
    Bundle.open(copied)
    (copied / "moved").unlink()
    with pytest.raises(BundleError, match=r"norms.safetensors is missing"):
        Bundle.open(copied)


@pytest.mark.parametrize("store", ["hub", "mounted"])
def test_bundles_of_links_into_one_store_are_read(copied: Path, tmp_path: Path, store: str) -> None:
    """As the caches of model hubs (relative links to blobs) and Kubernetes (a link to a dated directory)."""
    blobs, links = tmp_path / "store" / "blobs", tmp_path / "store" / "snapshots" / "main"
    links.mkdir(parents=True)
    copied.rename(blobs)
    if store == "mounted":
        os.symlink("../../blobs", links / "..data")
    for file in blobs.iterdir():
        os.symlink(
            f"..data/{file.name}" if store == "mounted" else f"../../blobs/{file.name}", links / file.name
        )
    assert Bundle.open(links).identity == Bundle.open(blobs).identity
    (links / "norms.safetensors").unlink()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(blobs / "norms.safetensors", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere" / "norms.safetensors", links / "norms.safetensors")
    with pytest.raises(BundleError, match="outside of the bundle"):
        Bundle.open(links)


@pytest.mark.parametrize(
    "text",
    ["[]", "null", "3", '""', "{}", '{"schema_version": "3x"}', '{"schema_version": null}',
     '{"schema_version": [3]}', '{"schema_version": true}', '{"schema_version": 4.0}',
     '{"schema_version": 1e400}', '{"schema_version": 4, "parity": ' + "[" * 100_000,
     "[" * 100_000, '{"a":' * 100_000,
     '{"schema_version": ' + "9" * 10_000 + "}", "\xff\xfe", '{"schema_version": 4}'],
)  # fmt: skip
def test_a_manifest_of_any_kind_is_one_error(copied: Path, text: str) -> None:
    (copied / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError):
        Bundle.open(copied)


def test_a_huge_manifest_is_not_read(copied: Path) -> None:
    with (copied / "manifest.json").open("ab") as file:
        file.truncate(10**11)
    with pytest.raises(BundleError, match="100,000,000,000 bytes, at most 16,777,216"):
        Bundle.open(copied)


def set_input(field: str, value: object) -> Change:
    return lambda m: m["input"].update({field: value})


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("input.height", set_input("height", 10**9)),
        ("input.height", set_input("height", 0)),
        ("input.height", set_input("height", "48")),
        ("image has the shape", set_input("height", 32)),
        ("input.std.0", set_input("std", [0, 1, 1])),
        ("input.std.1", set_input("std", [1, -1, 1])),
        ("input.mean.0", set_input("mean", [1e39, 0, 0])),
        ("input: 2 means and 3 standard deviations", set_input("mean", [0, 0])),
        ("input: bgr has 3 channels", lambda m: m["input"].update(colours="bgr", mean=[0], std=[1])),
        ("input.colour_order", set_input("colour_order", "BGR")),
        ("input.colours", set_input("colours", "rgb\x1b[2J")),
        ("adaptation.lr", lambda m: m["adaptation"].update(lr=1e308)),
        ("adaptation.lr", lambda m: m["adaptation"].update(lr=-1)),
        ("adaptation.prior", lambda m: m["adaptation"].update(prior=[0.5, 1.5])),
        ("adaptation.momentum", lambda m: m["adaptation"].update(momentum=1)),
        ("adaptation.pos_coeff", lambda m: m["adaptation"].update(pos_coeff=1e300)),
        ("classes", lambda m: m["classes"].__setitem__(1, m["classes"][0])),
        ("classes.0.colour.0", lambda m: m["classes"][0].update(colour=[999, 0, 0])),
        ("classes", lambda m: m.update(classes=[])),
        ("logits", lambda m: m.update(logits=[5, 10**12, 64])),
        ("logits", lambda m: m.update(logits=[5, 30000, 30000])),
        ("features", lambda m: m.update(features=[[10**12, 1, 1]])),
        ("features", lambda m: m.update(features=[])),
        ("norms.0.channels", lambda m: m["norms"][0].update(channels=10**12)),
        ("norm_vectors has the shape", lambda m: m["norms"][0].update(channels=3)),
        ("opset", lambda m: m.update(opset=10**9)),
        ("stat_rows", lambda m: m.update(stat_rows=-4)),
        ("head_parameters", lambda m: m.update(head_parameters=10**15)),
        ("forms", lambda m: m["forms"].pop("plain")),
        ("forms", lambda m: m["forms"].update(other=m["forms"]["plain"])),
        ("forms.plain.file", lambda m: m["forms"]["plain"].update(file="../x.onnx")),
        ("not among the files", lambda m: m["forms"]["plain"].update(file="other.onnx")),
        ("dtype", lambda m: m["forms"]["plain"]["inputs"][0].update(dtype="float64")),
        ("parity.images", lambda m: m["parity"].update(images="\x1b[2J")),
        ("parity.forms", lambda m: m["parity"].pop("forms")),
        ("architecture", lambda m: m.update(architecture="x" * 10**6)),
        ("architecture", lambda m: m.update(architecture=["a"])),
        ("created_with", lambda m: m.update(created_with={"a": 1})),
        ("checkpoint_sha256", lambda m: m.update(checkpoint_sha256="../x")),
        ("files.head.onnx.bytes", lambda m: m["files"]["head.onnx"].update(bytes=-1)),
        ("files.head.onnx.sha256", lambda m: m["files"]["head.onnx"].update(sha256="0")),
        ("head_graphs", lambda m: m["head_graphs"]["graphs"].pop("head")),
        ("head_graphs", lambda m: m["head_graphs"]["parameters"].update(other="x")),
        ("surprise", lambda m: m.update(surprise=1)),
    ],
)  # fmt: skip
def test_a_field_that_makes_no_sense_is_refused_by_its_name(copied: Path, field: str, change: Change) -> None:
    change_manifest(copied, change)
    with pytest.raises(BundleError, match=field):
        Bundle.open(copied)


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        (r"mean: expected torch.float32 \[\d+\], got torch.float32 \[5\]",
         lambda n: {**n, "mean": n["mean"][:5].clone()}),
        ("tensors bias, mean, var, weight, expected", lambda n: {k: v for k, v in n.items() if k != "eps"}),
        ("tensors .*extra.*, expected", lambda n: {**n, "extra": torch.zeros(2)}),
        ("bias: expected torch.float32 .* got torch.int32",
         lambda n: {k: v.to(torch.int32) for k, v in n.items()}),
        ("var: expected torch.float32", lambda n: {**n, "var": n["var"].double()}),
        ("var and eps", lambda n: {**n, "var": -n["var"]}),
        ("var and eps", lambda n: {**n, "var": 0 * n["var"], "eps": 0 * n["eps"]}),
        ("mean: expected finite", lambda n: {**n, "mean": n["mean"] * float("nan")}),
        ("weight: expected finite", lambda n: {**n, "weight": n["weight"] * float("inf")}),
        ("mean: expected torch.float32", lambda n: {**n, "mean": n["mean"][None].clone()}),
    ],
)  # fmt: skip
def test_norms_that_fit_their_hash_and_nothing_else(
    copied: Path, problem: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    norms = load_file(copied / "norms.safetensors")
    save_file(change(norms), copied / "norms.safetensors")
    rehash(copied, "norms.safetensors")
    with pytest.raises(BundleError, match=f"norms.safetensors does not fit the manifest: {problem}"):
        load_norms(Bundle.open(copied))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x07", b"\xff" * 8, (1 << 40).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{}",
     (200_000).to_bytes(8, "little") + b"[" * 200_000],
)  # fmt: skip
def test_tensor_files_of_any_kind_are_one_error(copied: Path, content: bytes) -> None:
    (copied / "norms.safetensors").write_bytes(content)
    rehash(copied, "norms.safetensors")
    with pytest.raises(BundleError, match=r"norms\.safetensors does not fit the manifest"):
        load_norms(Bundle.open(copied))


def test_head_weights_are_finite_and_as_many_as_the_manifest_says(copied: Path) -> None:
    weights = load_file(copied / "weights.safetensors")
    name = next(iter(load_head_weights(Bundle.open(copied))))
    save_file({**weights, name: weights[name] * float("nan")}, copied / "weights.safetensors")
    rehash(copied, "weights.safetensors")
    with pytest.raises(BundleError, match=r"the head does not fit the manifest: .*expected finite"):
        load_head_weights(Bundle.open(copied))
    save_file(weights, copied / "weights.safetensors")
    rehash(copied, "weights.safetensors")
    change_manifest(copied, lambda m: m.update(head_parameters=m["head_parameters"] + 1))
    with pytest.raises(BundleError, match=r"the head does not fit the manifest: .*weights, expected"):
        load_head_weights(Bundle.open(copied))
