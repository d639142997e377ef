"""A bundle that its maker signed, and what is refused where a signature is required."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import ocl_edge
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import SignatureError, UsageError
from ocl_edge_app.cli import run
from tests.doubles.images import random_image

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its keys with OpenSSL")


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key, made as the pages say."""
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


@pytest.fixture
def signed(tmp_path: Path, small_bundle: Bundle, keys: tuple[Path, Path]) -> Path:
    path = tmp_path / "signed"
    shutil.copytree(small_bundle.path, path)
    assert run(["sign", str(path), "--key", str(keys[0])]) == 0
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert run([*map(str, words)]) in (1, 2)
    return capsys.readouterr().err


def test_a_signed_bundle_runs_and_openssl_agrees(
    signed: Path, keys: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    required = ("--require-signature", str(keys[1]))
    assert run(["inspect", str(signed), *required]) == 0
    assert run(["run", str(signed), "--source", str(frames), "--limit", "1", "--quiet", *required]) == 0
    session = ocl_edge.open(signed, signed_by=keys[1], method="norm")
    assert session.predict(random_image(0)).dtype == np.uint8
    manifest, signature = signed / "manifest.json", signed / "manifest.json.sig"
    verify = ("pkeyutl", "-verify", "-pubin", "-inkey", keys[1], "-rawin", "-in", manifest)
    openssl(*verify, "-sigfile", signature)


@pytest.mark.parametrize("verb", ["run", "inspect", "evaluate", "profile", "build"])
def test_every_verb_that_takes_a_bundle_refuses_an_unsigned_one(
    verb: str, small_bundle: Bundle, keys: tuple[Path, Path], frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {
        "run": ("--source", frames),
        "profile": ("--source", frames),
        "evaluate": ("--frames", frames, "--labels", frames),
        "build": ("--backend", "tensorrt-rtx"),
    }.get(verb, ())
    text = refused(capsys, verb, small_bundle.path, *more, "--require-signature", keys[1])
    assert "is not signed, and a signature is required" in text


def test_a_strangers_signature_and_a_change_are_refused_before_anything_is_read(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, its_public = tmp_path / "other.pem", tmp_path / "other.pub"
    openssl("genpkey", "-algorithm", "ed25519", "-out", other)
    openssl("pkey", "-in", other, "-pubout", "-out", its_public)
    with pytest.raises(SignatureError, match=r"was not signed with the key that belongs to .*other\.pub"):
        Bundle.open(signed, signed_by=its_public)

    # weights of a stranger's, with hashes that fit
    (signed / "weights.safetensors").write_bytes((signed / "weights.safetensors").read_bytes() + b" ")
    manifest = json.loads((signed / "manifest.json").read_text("utf-8"))
    content = (signed / "weights.safetensors").read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"]["weights.safetensors"] = entry
    (signed / "manifest.json").write_text(json.dumps(manifest))
    Bundle.open(signed)
    with pytest.raises(SignatureError, match="its manifest was changed since: nothing was loaded"):
        Bundle.open(signed, signed_by=keys[1])
    (signed / "manifest.json").write_text(json.dumps({"schema_version": 99}))
    assert "was changed since" in refused(capsys, "inspect", signed, "--require-signature", keys[1])


def test_a_file_that_was_changed_under_a_good_signature_is_refused(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    (signed / "head.json").write_bytes(b"{}")
    with pytest.raises(ocl_edge.OclEdgeError, match=r"head\.json was changed after export"):
        Bundle.open(signed, signed_by=keys[1])


def test_a_damaged_bundle_is_not_signed(
    tmp_path: Path, small_bundle: Bundle, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged"
    shutil.copytree(small_bundle.path, path)
    (path / "head.json").write_bytes(b"{}")
    assert "head.json was changed" in refused(capsys, "sign", path, "--key", keys[0])
    assert not (path / "manifest.json.sig").exists()


def test_what_is_no_key_is_named_with_the_command_that_makes_one(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rsa = tmp_path / "rsa.pem"
    openssl("genpkey", "-algorithm", "rsa", "-out", rsa)
    for words in (
        ("sign", signed, "--key", rsa),
        ("sign", signed, "--key", keys[1]),
        ("sign", signed, "--key", tmp_path / "none"),
        ("inspect", signed, "--require-signature", keys[0]),
        ("inspect", signed, "--require-signature", signed / "head.json"),
    ):
        text = refused(capsys, *words)
        assert "openssl genpkey" in text or "cannot be read" in text, words


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 64, b"x" * 65])
def test_what_is_no_signature_is_refused(signed: Path, keys: tuple[Path, Path], content: bytes) -> None:
    (signed / "manifest.json.sig").write_bytes(content)
    with pytest.raises(SignatureError):
        Bundle.open(signed, signed_by=keys[1])
    Bundle.open(signed)  # nobody asks who signed it


def test_a_private_key_is_not_asked_of_who_checks(signed: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="holds no public key"):
        Bundle.open(signed, signed_by=keys[0])
