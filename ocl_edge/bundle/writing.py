"""Writing a bundle: complete or absent, since it is written beside its place and renamed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ocl_edge import durable
from ocl_edge.bundle.manifest import MANIFEST, Manifest, file_sha256
from ocl_edge.bundle.manifest_parts import FileSpec
from ocl_edge.bundle.outputs import text_of
from ocl_edge.errors import BundleError, OutputError, UsageError


@contextlib.contextmanager
def new_bundle_directory(out: Path, force: bool) -> Iterator[Path]:
    """A directory beside ``out`` that becomes ``out`` if the block succeeds and vanishes if it does not.

    Raises:
        UsageError: ``out`` exists and ``force`` is not set, or is not a bundle.
        BundleError: it cannot be written (permission, full disk).
    """
    if out.exists():
        if not force:
            raise UsageError(f"{out} exists; choose another --out, or replace it with --force")
        if not (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))):
            raise UsageError(f"{out} exists and is not a bundle; --force replaces only bundles")
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    except OSError as error:
        raise BundleError(f"cannot write beside {out}: {error.strerror}") from error
    try:
        staging.chmod(0o755)
        yield staging
        _put_in_place(staging, out)
    except (OSError, OutputError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise BundleError(f"cannot write {out}: {reason}; nothing was left there") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_manifest(directory: Path, manifests: Mapping[str, Manifest]) -> None:
    """Hash every file of the directory into the manifest and write it, all durably.

    Args:
        directory: of the bundle.
        manifests: of each output by its name, which is empty where there is one.

    Raises:
        OSError: a file cannot be read or flushed.
        OutputError: the manifest cannot be written.
    """
    files = {}
    for file in sorted(directory.iterdir()):
        if file.name != MANIFEST:
            files[file.name] = FileSpec(sha256=file_sha256(file), bytes=file.stat().st_size)
            durable.flush_to_disk(file)
    complete = {name: each.model_copy(update={"files": files}) for name, each in manifests.items()}
    durable.write_text(directory / MANIFEST, text_of(complete))


def _put_in_place(staging: Path, out: Path) -> None:
    if out.exists():
        retired = staging.with_name(f"{staging.name}.old")
        out.rename(retired)
        try:
            staging.rename(out)
        except OSError:
            retired.rename(out)
            raise
        shutil.rmtree(retired)
    else:
        staging.rename(out)
    durable.flush_to_disk(out.absolute().parent)
