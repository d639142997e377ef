"""What TensorRT-RTX compiled for this GPU when it loaded an engine, kept for the next start."""

from __future__ import annotations

import contextlib
from typing import Any

from ocl_edge import durable
from ocl_edge.errors import OutputError
from ocl_edge.tensorrt.key import Here
from ocl_edge.tensorrt.store import StoredEngine
from ocl_edge.user_cache import user_cache


class RuntimeCache:
    """A cache file of one engine on one device; it may be deleted at any time.

    Args:
        config: the engine's runtime configuration; takes over the cache.
        stored: the engine.
        here: the device.
        sizes: free sizes of the context.
    """

    def __init__(self, config: Any, stored: StoredEngine, here: Here, sizes: tuple[int, ...]) -> None:
        shape = "x".join(map(str, sizes)) or "fixed"
        tied_to = (stored.record.sha256[:24], here.compute_capability, here.version, here.cuda, shape)
        self.path = user_cache() / "runtime" / f"{'-'.join(tied_to)}.cache"
        self._cache = config.create_runtime_cache()
        with contextlib.suppress(OSError):
            content = self.path.read_bytes()
            if content and not self._cache.deserialize(content):
                self.path.unlink()  # of another driver, or damaged: it is made anew
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write it; a disk that cannot be written costs the next start time only."""
        content = bytes(self._cache.serialize())
        with contextlib.suppress(OSError, OutputError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            durable.write_bytes(self.path, content, durable=False)
