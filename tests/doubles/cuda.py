"""A test double of torch.cuda that finds races: two streams at one place in memory, without an order.

Every access of an engine or of a PyTorch operator is put on the stream that is current.
What has happened before it on other streams is known from events, waits and synchronisation
alone (vector clocks): a wait that is missing in the code is a race here, whatever the timing.
All memory lies on the host; nothing is freed while it is watched, so that no address is used twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ocl_edge_runtime.backends.tensorrt_torch import TorchCudaDevice
from tests.doubles import tensorrt as fake_tensorrt

BLOCK_BITS = 12


@dataclass(eq=False)
class Stream:
    priority: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    clock: Counter[int] = field(default_factory=Counter)
    """How much of every stream's work, by handle, has happened before what is enqueued next."""
    host: Counter[int] = field(default_factory=Counter)
    """The same for what the host knows to be done; one for all streams."""
    synchronised: int = 0

    @property
    def cuda_stream(self) -> int:
        return id(self)

    def wait_event(self, event: Event) -> None:
        self.clock |= event.clock

    def wait_stream(self, other: Stream) -> None:
        self.clock |= other.clock

    def synchronize(self) -> None:
        self.synchronised += 1
        self.host |= self.clock


class Event:
    def __init__(self) -> None:
        self.clock: Counter[int] = Counter()

    def record(self, stream: Stream) -> None:
        self.clock = stream.clock.copy()


@dataclass(frozen=True)
class Access:
    stream: int
    time: int
    start: int
    end: int
    writes: bool
    what: str


class FakeCuda(TorchDispatchMode):
    """Use as a context: operators are watched inside."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.default = Stream(0)
        self.current = self.default
        self.streams: list[Stream] = [self.default]
        self.accesses: dict[int, dict[tuple[object, ...], Access]] = defaultdict(dict)
        """By block of memory: the last one of each kind, which is after all of its kind before it."""
        self.races: list[str] = []
        self.shared = 0
        self._alive: list[Any] = []
        for name, value in {
            "is_available": lambda: True,
            "Stream": self.make_stream,
            "Event": Event,
            "current_stream": lambda _device: self.current,
            "stream": self.switch,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(fake_tensorrt, "STREAMS", self)
        monkeypatch.setattr(fake_tensorrt, "WATCHERS", [self.engine_ran])

    def make_stream(self, _device: torch.device, priority: int) -> Stream:
        self.streams.append(Stream(priority, host=self.default.host))
        return self.streams[-1]

    def __contains__(self, handle: int) -> bool:
        return any(stream.cuda_stream == handle for stream in self.streams)

    @contextmanager
    def switch(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def device(self, on_host: bool, for_updates: bool) -> TorchCudaDevice:
        """The real class; its GPU is the host."""
        device = TorchCudaDevice(on_host=on_host, for_updates=for_updates)
        device._cuda = device.torch_device = torch.device("cpu")
        return device

    def engine_ran(
        self, handle: int, reads: dict[str, tuple[int, int]], writes: dict[str, tuple[int, int]]
    ) -> None:
        (stream,) = (stream for stream in self.streams if stream.cuda_stream == handle)
        self._enqueue(stream, [(*place, name) for name, place in reads.items()], False)
        self._enqueue(stream, [(*place, name) for name, place in writes.items()], True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: value for name, value in (kwargs or {}).items() if name != "pin_memory"}
        result = func(*args, **kwargs)
        given = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        made = [r for r in torch.utils._pytree.tree_leaves(result) if isinstance(r, Tensor)]
        self._alive += given + made
        places = {tensor.untyped_storage().data_ptr() for tensor in given}
        changed = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info and argument.alias_info.is_write and isinstance(value, Tensor)
        ]
        views = made and all(tensor.untyped_storage().data_ptr() in places for tensor in made) and not changed
        if not views:
            name = str(func)
            self._enqueue(self.current, [(*extent(t), name) for t in given], False)
            self._enqueue(self.current, [(*extent(t), name) for t in (*made, *changed)], True)
        return result

    def _enqueue(self, stream: Stream, places: Sequence[tuple[int, int, str]], writes: bool) -> None:
        mine = stream.cuda_stream
        stream.clock |= stream.host
        stream.clock[mine] += 1
        for start, end, what in places:
            for block in range(start >> BLOCK_BITS, (end >> BLOCK_BITS) + 1):
                for other in self.accesses[block].values():
                    if other.stream == mine or other.end <= start or end <= other.start:
                        continue
                    if writes or other.writes:
                        self.shared += 1
                        if stream.clock[other.stream] < other.time:
                            self.races.append(f"{what} and {other.what}")
                access = Access(mine, stream.clock[mine], start, end, writes, what)
                self.accesses[block][mine, start, end, writes] = access


def extent(tensor: Tensor) -> tuple[int, int]:
    """First and last byte that a tensor may reach."""
    if tensor.numel() == 0:
        return tensor.data_ptr(), tensor.data_ptr()
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
