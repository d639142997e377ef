"""The numbers of a run for Prometheus: ``--metrics``.

They are put together when they are asked for, on the thread that answers. The frame loop adds to plain
counters and knows of nobody who reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ocl_edge.errors import MissingExtraError
from ocl_edge_runtime.lifetime import ClosedAtExit
from ocl_edge_runtime.views.address import Address, listening
from ocl_edge_runtime.views.machine_state import MachineState
from ocl_edge_runtime.views.stream_state import LATENCY_BOUNDS_S, StreamState

if TYPE_CHECKING:
    from prometheus_client.core import Metric

COUNTERS: dict[str, tuple[str, Callable[[StreamState], float]]] = {
    "frames": ("Masks that were emitted.", lambda s: s.frames),
    "late": ("Masks that missed the deadline.", lambda s: s.late),
    "dropped": ("Frames that arrived while the session was busy.", lambda s: s.dropped),
    "skipped": ("Frames that could not be read or used.", lambda s: s.skipped),
    "left_out": ("Masks that a sink or viewer was too slow to take.", lambda s: s.left_out),
    "updates": ("Updates that were applied.", lambda s: s.updates),
    "rollbacks": ("Updates that the guard undid.", lambda s: s.rollbacks),
}
GAUGES: dict[str, tuple[str, Callable[[StreamState], float]]] = {
    "opening": ("How far adaptation is open, 0 to 1; 0 is the frozen network.", lambda s: s.opening),
    "distance_from_home": (
        "Of the last frame that was measured; about 1 is the border.",
        lambda s: s.distance,
    ),
    "refused_statistics_distance": (
        "From the trained statistics, of the last frame that was refused.",
        lambda s: s.statistics_distance,
    ),
    "drift": ("Relative distance of the head's weights from the trained ones.", lambda s: s.drift),
    "loss": ("Before the last update.", lambda s: s.loss),
}
PREFIX = "ocl_edge"


class RunCollector:
    """What prometheus_client asks for the numbers of a run.

    Args:
        streams: a state for each camera, and for each output of its network.
        machine: temperatures and clocks.
    """

    def __init__(self, streams: Sequence[StreamState], machine: MachineState) -> None:
        self._streams = streams
        self._machine = machine
        outputs = any(stream.output for stream in streams)
        self._labels = ["camera", "output"] if outputs else ["camera"]

    def collect(self) -> Iterator[Metric]:
        """Every metric, as it is now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, (told, value) in COUNTERS.items():
            counter = CounterMetricFamily(f"{PREFIX}_{name}", told, labels=self._labels)
            for stream in self._streams:
                counter.add_metric(self._of(stream), value(stream))
            yield counter
        for name, (told, value) in GAUGES.items():
            gauge = GaugeMetricFamily(f"{PREFIX}_{name}", told, labels=self._labels)
            for stream in self._streams:
                gauge.add_metric(self._of(stream), value(stream))
            yield gauge
        reasons = CounterMetricFamily(
            f"{PREFIX}_update_outcomes", "What became of the updates.", labels=[*self._labels, "outcome"]
        )
        latency = HistogramMetricFamily(
            f"{PREFIX}_mask_latency_seconds", "From the decoded frame to its mask.", labels=self._labels
        )
        for stream in self._streams:
            for reason, count in sorted(dict(stream.reasons).items()):
                reasons.add_metric([*self._of(stream), reason], count)
            latency.add_metric(self._of(stream), _buckets(stream), sum_value=stream.latency_s)
        yield from (reasons, latency)
        yield from self._of_the_machine(GaugeMetricFamily)

    def _of(self, stream: StreamState) -> list[str]:
        return [stream.camera, stream.output][: len(self._labels)]

    def _of_the_machine(self, gauge: type[Any]) -> Iterator[Metric]:
        celsius = gauge(f"{PREFIX}_temperature_celsius", "Of a part of the machine.", labels=["part"])
        hertz = gauge(f"{PREFIX}_clock_hertz", "Of a part of the machine.", labels=["part"])
        for family, readings in ((celsius, self._machine.temperatures()), (hertz, self._machine.clocks())):
            for reading in readings:
                family.add_metric([reading.part], reading.value)
            yield family


class MetricsServer(ClosedAtExit):
    """Serves the numbers of a run at ``/metrics``, each request on a thread of its own.

    Args:
        address: where; without a host on this machine alone.
        streams: a state for each camera.
        machine: temperatures and clocks; None: of this machine.

    Raises:
        MissingExtraError: prometheus-client is not installed.
        OutputError: the port is in use, or cannot be listened on.
    """

    def __init__(
        self, address: Address, streams: Sequence[StreamState], machine: MachineState | None = None
    ) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError as error:
            raise MissingExtraError("prometheus-client", "metrics", "--metrics") from error
        registry = CollectorRegistry(auto_describe=False)
        registry.register(RunCollector(streams, machine or MachineState()))
        self._server, self._thread = listening(
            address, "--metrics", lambda: start_http_server(address.port, address.host, registry)
        )
        self.address = Address(address.host, self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _buckets(stream: StreamState) -> list[tuple[str, float]]:
    """Upper bound -> masks that were as fast or faster, as Prometheus counts."""
    bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    return list(zip(bounds, accumulate(stream.latencies), strict=True))
