"""Who made a bundle: a signature of its manifest, which holds the hash of every other file.

The signature is Ed25519 (RFC 8032) over the bytes of ``manifest.json``, 64 bytes in a file beside it, so that
OpenSSL checks it, too. Keys are files in PEM, as OpenSSL writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocl_edge import durable
from ocl_edge.errors import MissingExtraError, SignatureError, UsageError
from ocl_edge.given_files import read_given, reason_of

SIGNATURE = "manifest.json.sig"
MOST_KEY_BYTES = 1 << 16
SIGNATURE_BYTES = 64
NEW_KEY = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub"


def sign_manifest(manifest: bytes, bundle: Path, key: Path) -> Path:
    """Write the signature of a manifest beside it, in place of one that is there.

    Args:
        manifest: its bytes.
        bundle: the directory.
        key: file of the private key, PEM without a passphrase.

    Raises:
        UsageError: the file holds no Ed25519 private key.
        MissingExtraError: the cryptography library is not installed.
        OutputError: the signature cannot be written.
    """
    signer = _signer(key)
    durable.write_bytes(bundle / SIGNATURE, signer.sign(manifest))
    return bundle / SIGNATURE


def check_private_key(key: Path) -> None:
    """Refuse a key that `sign_manifest` would refuse, before the work.

    Raises:
        UsageError: as there.
        MissingExtraError: likewise.
    """
    _signer(key)


def check_signature(manifest: bytes, bundle: Path, key: Path) -> None:
    """Refuse a manifest that the owner of a key did not sign.

    Args:
        manifest: its bytes, as they will be read.
        bundle: the directory.
        key: file of the public key, PEM.

    Raises:
        SignatureError: it is not signed, or was signed by another key, or changed since.
        UsageError: the file holds no Ed25519 public key.
        MissingExtraError: the cryptography library is not installed.
    """
    try:
        signature = read_given(bundle / SIGNATURE, SIGNATURE_BYTES)
    except FileNotFoundError:
        raise SignatureError(
            f"{bundle} is not signed, and a signature is required; who made it signs it: "
            f"ocl-edge sign {bundle} --key PRIVATE_KEY"
        ) from None
    except OSError as error:
        raise SignatureError(f"{bundle / SIGNATURE} is no signature: {reason_of(error)}") from error
    check_signature_of(manifest, signature, key, str(bundle))


def check_signature_of(manifest: bytes, signature: bytes, key: Path, named: str) -> None:
    """As `check_signature`, of bytes that came another way.

    Args:
        manifest: its bytes, as they will be read.
        signature: of them.
        key: file of the public key, PEM.
        named: what it is of, for errors.
    """
    ed25519, serialization = _library()
    owner = _key(key, "public", serialization.load_pem_public_key)
    if not isinstance(owner, ed25519.Ed25519PublicKey):
        raise UsageError(f"{key} holds another kind of key than Ed25519; make one: {NEW_KEY}")
    from cryptography.exceptions import InvalidSignature

    try:
        owner.verify(signature, manifest)
    except InvalidSignature:
        raise SignatureError(
            f"{named} was not signed with the key that belongs to {key}, or its manifest was changed since: "
            "nothing was loaded"
        ) from None


def _signer(key: Path) -> Any:
    ed25519, serialization = _library()
    signer = _key(key, "private", lambda pem: serialization.load_pem_private_key(pem, None))
    if not isinstance(signer, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{key} holds another kind of key than Ed25519; make one: {NEW_KEY}")
    return signer


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError("cryptography", "sign", "a signature") from error
    return ed25519, serialization


def _key(file: Path, kind: str, load: Any) -> Any:
    try:
        return load(read_given(file, MOST_KEY_BYTES))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {reason_of(error)}") from error
    except Exception as error:  # of its own kinds, TypeError (a passphrase), or of OpenSSL's
        raise UsageError(
            f"{file} holds no {kind} key in PEM without a passphrase; make one: {NEW_KEY}"
        ) from error
