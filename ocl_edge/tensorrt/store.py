"""Where compiled engines lie: found, checked, locked, and written completely or not at all.

    BUNDLE/engines/KEY/FORM.engine    the serialised engine, nothing else in the file
    BUNDLE/engines/KEY/FORM.json      its record; written last, so its presence means complete

A bundle on a read-only disk keeps its engines in the user's cache directory instead,
under the bundle's identity. Outputs of one bundle share the engines of its backbone; those of a head have the
output's name in theirs (``head.NAME.engine``).

An engine is code: TensorRT runs what it holds. So an engine is loaded where it was built by this user, whose
cache directory remembers its hash, or where the user has said once that those of a bundle may be
(``ocl-edge build --trust-engines``). Engines that came with a bundle are left alone otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from ocl_edge import durable
from ocl_edge.bundle.manifest import ENGINES
from ocl_edge.bundle.outputs import part_file
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BuildError, NoValidEngineError, OutputError
from ocl_edge.given_files import read_given, reason_of
from ocl_edge.network.form_names import HEAD_GRAPHS, GraphName
from ocl_edge.tensorrt.key import EngineKey, EngineRecord, Here, Precision, reasons_against
from ocl_edge.user_cache import user_cache

STAGING = ".build."
MOST_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredEngine:
    """An engine file, its record, and the bundle that it belongs to, as a command line names it."""

    path: Path
    record: EngineRecord
    bundle: str

    def read(self) -> bytes:
        """The engine's bytes, after their hash was compared with the record.

        Raises:
            NoValidEngineError: the file is missing or was changed.
        """
        try:
            content = read_given(self.path, max(self.record.bytes, 1))
        except OSError as error:
            raise NoValidEngineError(f"{self.path} cannot be read: {reason_of(error)}") from error
        if hashlib.sha256(content).hexdigest() != self.record.sha256:
            raise NoValidEngineError(
                f"{self.path} is damaged: its sha256 is not the one in {self.path.stem}.json; build it again "
                f"with: {build_command(self.bundle, self.record.key, rebuild=True)}"
            )
        return content


def engine_directories(bundle: Bundle) -> tuple[Path, Path]:
    """The bundle's own engine directory, and its place in the user's cache."""
    return bundle.path / ENGINES, user_cache() / ENGINES / bundle.identity[:24]


def writable_directory(bundle: Bundle) -> Path:
    """The first of `engine_directories` that can be written.

    Raises:
        BuildError: neither can.
    """
    reasons = []
    for directory in engine_directories(bundle):
        if directory.is_symlink():
            reasons.append(f"{directory}: it is a link, which is not followed")
            continue
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                return directory
        except OSError as error:
            reasons.append(f"{directory}: {error.strerror}")
    raise BuildError(
        f"no place for the engine can be written ({'; '.join(reasons)}); "
        "set XDG_CACHE_HOME to a directory that can"
    )


def list_engines(bundle: Bundle) -> list[StoredEngine]:
    """Every complete engine of a bundle, newest first, but those of other outputs' heads.

    Records that cannot be read are left out.
    """
    found = []
    for directory in engine_directories(bundle):
        for file in directory.glob("*/*.json"):
            with contextlib.suppress(OSError, ValidationError):
                record = EngineRecord.model_validate_json(read_given(file, MOST_RECORD_BYTES))
                if file.name == _file_of(bundle, record.key.form, "json"):
                    found.append(StoredEngine(file.with_suffix(".engine"), record, bundle.named))
    return sorted(found, key=lambda engine: engine.record.built_at, reverse=True)


def is_trusted(engine: StoredEngine) -> bool:
    """Whether an engine was built by this user, or taken with ``--trust-engines``."""
    return (_trusted_directory() / engine.record.sha256).is_file()


def trust_engines(bundle: Bundle) -> list[StoredEngine]:
    """Let the engines that lie in a bundle run from now on, as if they had been built here.

    Returns:
        Those that were not trusted before.

    Raises:
        BuildError: the user's cache directory cannot be written.
        NoValidEngineError: an engine is damaged.
    """
    foreign = [engine for engine in list_engines(bundle) if not is_trusted(engine)]
    for engine in foreign:
        engine.read()
        _remember(engine.record)
    return foreign


def _trusted_directory() -> Path:
    return user_cache() / "trusted-engines"


def _remember(record: EngineRecord) -> None:
    try:
        _trusted_directory().mkdir(parents=True, exist_ok=True)
        durable.write_bytes(_trusted_directory() / record.sha256, b"", durable=False)
    except (OSError, OutputError) as error:
        raise BuildError(
            f"{_trusted_directory()} cannot be written, which remembers the engines that may run ({error}); "
            "set XDG_CACHE_HOME to a directory that can"
        ) from error


def find_engine(
    bundle: Bundle, form: GraphName, here: Here, precision: Precision | None = None
) -> StoredEngine:
    """The newest engine that is valid for a form here.

    Raises:
        NoValidEngineError: there is none; says what differs in the one that comes closest.
    """
    there = [engine for engine in list_engines(bundle) if engine.record.key.form == form]
    candidates = [engine for engine in there if is_trusted(engine)]
    judged = [(reasons_against(e.record.key, bundle, form, here, precision), e) for e in candidates]
    for reasons, engine in judged:
        if not reasons:
            return engine
    command = f"ocl-edge build {bundle.named} --backend {here.flavour} --forms {form}"
    command += f" --precision {precision}" if precision else ""
    if not judged:
        came = (
            f"; the {len(there)} that came with the bundle were not built here, and an engine is code. If "
            f"you trust its origin: ocl-edge build {bundle.named} --backend {here.flavour} --trust-engines"
        )
        raise NoValidEngineError(
            f"no {here.flavour} engine of the {form} form was built{' here' if there else ''}; "
            f"build it: {command}{came if there else ''}"
        )
    reasons, closest = min(judged, key=lambda pair: len(pair[0]))
    raise NoValidEngineError(
        f"no engine of the {form} form fits here; {closest.path} differs: {'; '.join(reasons)}. "
        f"Build one for this device: {command}"
    )


def find_built(bundle: Bundle, directory: Path, key: EngineKey) -> StoredEngine | None:
    """The complete and undamaged engine with exactly this key, if it is there."""
    record_file = directory / key.directory / _file_of(bundle, key.form, "json")
    try:
        record = EngineRecord.model_validate_json(read_given(record_file, MOST_RECORD_BYTES))
        engine = StoredEngine(record_file.with_suffix(".engine"), record, bundle.named)
        if record.key == key and is_trusted(engine):
            engine.read()
            return engine
    except (OSError, ValidationError, NoValidEngineError):
        pass
    return None


def store_engine(bundle: Bundle, directory: Path, built: Path, record: EngineRecord) -> StoredEngine:
    """Move a finished engine file into its place, then write its record.

    Args:
        bundle: that it was built from.
        directory: one of `engine_directories`.
        built: the engine file, on the same file system.
        record: of it.

    Raises:
        OutputError: one of them cannot be written.
        BuildError: it cannot be remembered as built here.
    """
    place = directory / record.key.directory
    if place.is_symlink():
        raise OutputError(f"{place} is a link, which is not followed; remove it")
    place.mkdir(parents=True, exist_ok=True)
    target, described = (place / _file_of(bundle, record.key.form, kind) for kind in ("engine", "json"))
    described.unlink(missing_ok=True)
    durable.move_file(built, target)
    _remember(record)
    durable.write_text(described, record.model_dump_json(indent=1) + "\n")
    return StoredEngine(target, record, bundle.named)


@contextlib.contextmanager
def build_lock(directory: Path, key: EngineKey, waiting: Callable[[str], None]) -> Iterator[None]:
    """Held by the one process that builds under this key; others wait.

    The lock is the kernel's: it ends with the process, however that ends.

    Args:
        directory: one of `engine_directories`.
        key: of the engine.
        waiting: called once with a message if another process holds the lock.
    """
    with _lock_of(directory, _build_name(key)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting("another process is building this engine; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def staging_directory(directory: Path, key: EngineKey) -> Iterator[Path]:
    """An empty directory to build in, for the holder of `build_lock`; it vanishes at the end.

    A build that is killed leaves its directory behind. The next build of any engine in the
    same place removes it: a directory whose lock can be had belongs to nobody.
    """
    for left in directory.glob(f"{STAGING}*"):
        name = left.name.removeprefix(STAGING)
        with _lock_of(directory, name) as file, contextlib.suppress(BlockingIOError):
            if name != _build_name(key):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    staging = directory / f"{STAGING}{_build_name(key)}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _file_of(bundle: Bundle, form: GraphName, suffix: str) -> str:
    return part_file(f"{form}.{suffix}", bundle.output if form in HEAD_GRAPHS else "")


def _build_name(key: EngineKey) -> str:
    return f"{key.directory}.{key.form}"


def _lock_of(directory: Path, name: str) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(directory / f".{name}.lock", flags, 0o666), "wb")
    except OSError as error:
        raise BuildError(f"cannot lock {directory / f'.{name}.lock'}: {reason_of(error)}") from error


def build_command(bundle: str, key: EngineKey, rebuild: bool = False) -> str:
    """The command that builds an engine with this key."""
    command = (
        f"ocl-edge build {bundle} --backend {key.flavour} --forms {key.form} --precision {key.precision}"
    )
    if key.gpu is None:
        command += f" --targets {','.join(key.compute_capabilities)}"
    return command + (" --rebuild" if rebuild else "")
