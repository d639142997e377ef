"""Frames and labels that a URL names: the files that are read, and no others, are copied to the user's cache.

A listing is believed in nothing but names and sizes: a name that leads out of its place is refused, and so
are more files or bytes than the limits below.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ocl_edge import durable
from ocl_edge.errors import MissingExtraError, OutputError, SourceError, UsageError
from ocl_edge.plain_text import without_secrets_of
from ocl_edge.user_cache import writable_place

PROTOCOLS = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "sftp", "ssh", "smb", "hdfs", "file", "memory")
"""Of fsspec, those that list directories and hold files; others read URLs out of what they find."""

URL = re.compile(r"[a-z][a-z0-9+.-]*://.*")
MOST_FILES = 500_000
MOST_BYTES = 64 << 30
MOST_BYTES_OF_A_FILE = 256 << 20
BLOCK = 1 << 20
CHANGES_WITH_CONTENT = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "blob_id",
    "mtime",
    "LastModified",
    "updated",
)
"""What one or another file system says of a file, besides its size."""


def is_url(place: str) -> bool:
    """Whether it is a URL rather than a path."""
    return URL.fullmatch(place) is not None


@dataclass(frozen=True)
class Mirror:
    """A directory in the user's cache that stands for one that a URL names.

    Every file that was listed is there; it is empty until `fetch` has brought its content.

    Attributes:
        url: of the directory.
        root: of the copy; another one for another listing.
        sizes: of every file below it, by its relative name, bytes; None where the place does not say.
    """

    url: str
    root: Path
    sizes: Mapping[str, int | None]

    @classmethod
    def of(cls, url: str) -> Mirror:
        """List a place.

        Raises:
            UsageError: no such place, a protocol that is not taken, or a listing that is not believed.
            MissingExtraError: fsspec is not installed.
            OutputError: the user's cache cannot be written.
        """
        listing = _listed(url)
        says = hashlib.sha256(repr((url, sorted(listing.items()))).encode()).hexdigest()
        root = writable_place("footage", says[:24])
        if root is None:
            raise OutputError(f"{_shown(url)}: the user's cache cannot be written; set XDG_CACHE_HOME")
        for name in listing:
            file = root / name
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                if not file.exists():
                    file.touch()
            except OSError as error:
                raise OutputError(f"{_shown(url)}: {name!r} cannot be kept: {error.strerror}") from error
        return cls(url, root, {name: size for name, (size, _) in listing.items()})

    def fetch(self, files: Iterable[Path]) -> None:
        """Bring the content of those of these files that are below `root` and not here yet.

        Raises:
            UsageError: they are larger than the limits.
            SourceError: one cannot be read, or has another size than was listed.
            OutputError: it cannot be written.
        """
        below = [file.relative_to(self.root).as_posix() for file in files if file.is_relative_to(self.root)]
        missing = [name for name in dict.fromkeys(below) if not self._is_here(name)]
        total = sum(self.sizes.get(name) or 0 for name in missing)
        if total > MOST_BYTES:
            raise UsageError(
                f"{_shown(self.url)}: {total:,} bytes are wanted, at most {MOST_BYTES:,} are fetched"
            )
        for name in missing:
            self._fetch(name)

    def _is_here(self, name: str) -> bool:
        size, found = self.sizes.get(name), (self.root / name).stat().st_size
        return found == size if size is not None else found > 0

    def _fetch(self, name: str) -> None:
        size = self.sizes.get(name)
        most = MOST_BYTES_OF_A_FILE if size is None else size
        written = 0
        system, path = _opened(self.url)
        try:
            with (
                system.open(f"{path}/{name}", "rb") as source,
                durable.writing(self.root / name, False) as file,
            ):
                while block := source.read(BLOCK):
                    written += len(block)
                    if written > most:
                        raise SourceError(f"it has more than the {most:,} bytes that it should have")
                    file.write(block)
                if size is not None and written < size:
                    raise SourceError(f"it ended after {written:,} of {size:,} bytes")
        except OutputError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise SourceError(f"{_shown(self.url)}: {name} cannot be read: {_reason(error)}") from error


def _listed(url: str) -> dict[str, tuple[int | None, str]]:
    """Every file below a place: its relative name -> size, and what changes with its content."""
    system, path = _opened(url)
    try:
        found: dict[str, dict[str, Any]] = system.find(path, detail=True)
    except Exception as error:  # each file system has errors of its own
        raise UsageError(f"{_shown(url)} cannot be listed: {_reason(error)}") from error
    if not found:
        raise UsageError(f"{_shown(url)}: no such directory, or nothing in it")
    if len(found) > MOST_FILES:
        raise UsageError(f"{_shown(url)} lists {len(found):,} files, at most {MOST_FILES:,} are taken")
    listing = {}
    for full, facts in found.items():
        name, size = _inside(full, path, url), facts.get("size")
        if size is not None and not 0 <= size <= MOST_BYTES_OF_A_FILE:
            continue  # no frame and no label
        marks = [str(facts[mark]) for mark in CHANGES_WITH_CONTENT if facts.get(mark)]
        listing[name] = (size, " ".join(marks))
    return listing


def _inside(full: str, path: str, url: str) -> str:
    """The name of a listed file below its place.

    Raises:
        UsageError: it leads out of there, or is no name of a file.
    """
    name = full.removeprefix(f"{path}/")
    parts = name.split("/")
    wrong = name == full or PurePosixPath(name).is_absolute() or not name.isprintable() or "\\" in name
    if wrong or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"{_shown(url)} lists {full!r}, which is no file inside of it: nothing is taken from there"
        )
    return name


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there, without a slash at its end."""
    protocol = url.partition("://")[0]
    if protocol not in PROTOCOLS or "::" in url:
        raise UsageError(f"{_shown(url)}: expected a path, or a URL of {', '.join(PROTOCOLS)}")
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "evaluate", "a URL") from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:  # of what fsspec itself needs for it; its words name the package
        raise UsageError(f"{_shown(url)}: {_reason(error)}") from error
    except Exception as error:
        raise UsageError(f"{_shown(url)} cannot be opened: {_reason(error)}") from error
    return system, path.rstrip("/")


def _shown(url: str) -> str:
    return without_secrets_of(url)


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
