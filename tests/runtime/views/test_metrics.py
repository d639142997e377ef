"""What Prometheus finds, and that nobody waits for it."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ocl_edge.errors import OutputError, UsageError
from ocl_edge_runtime.sinks.queued import QueuedSink
from ocl_edge_runtime.views.address import Address
from ocl_edge_runtime.views.machine_state import MachineState
from ocl_edge_runtime.views.metrics import MetricsServer
from ocl_edge_runtime.views.stream_state import StreamState
from tests.doubles.streams import LEARNED, UNDONE, SilentSource, result

ROOT = Path(__file__).parents[3]
ANY_PORT = Address("127.0.0.1", 0)


def machine(root: Path) -> MachineState:
    """One thermal zone, one group of cores, a GPU of a Jetson."""
    for name, text in {
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "51500\n",
        "sys/class/thermal/thermal_zone1/temp": "no number",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1510400\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "918000000\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return MachineState(root)


def scrape(server: MetricsServer) -> str:
    with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=5) as answer:
        return answer.read().decode()


def values(text: str) -> dict[tuple[str, ...], float]:
    """Name and labels of every sample -> its value."""
    return {
        (sample.name, *(v for _, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_number_is_what_the_frames_told(tmp_path: Path) -> None:
    source = SilentSource()
    front, rear = StreamState("front", source), StreamState("rear", SilentSource())
    for each, latency_ms in ((LEARNED, 12.0), (LEARNED, 45.0), (UNDONE, 3000.0)):
        front.add(result(each, latency_ms, late=latency_ms > 100))
    source.dropped, source.skipped = 4, 2
    with MetricsServer(ANY_PORT, [front, rear], machine(tmp_path)) as server:
        found = values(scrape(server))
    expected = {
        ("ocl_edge_frames_total", "front"): 3,
        ("ocl_edge_frames_total", "rear"): 0,
        ("ocl_edge_late_total", "front"): 1,
        ("ocl_edge_dropped_total", "front"): 4,
        ("ocl_edge_skipped_total", "front"): 2,
        ("ocl_edge_updates_total", "front"): 2,
        ("ocl_edge_rollbacks_total", "front"): 1,
        ("ocl_edge_update_outcomes_total", "front", "adapted"): 2,
        ("ocl_edge_update_outcomes_total", "front", "rolled_back"): 1,
        ("ocl_edge_opening", "front"): 0.5,
        ("ocl_edge_distance_from_home", "front"): 1.25,
        ("ocl_edge_drift", "front"): 0.25,
        ("ocl_edge_loss", "front"): -2.0,
        ("ocl_edge_mask_latency_seconds_bucket", "front", "0.01"): 0,
        ("ocl_edge_mask_latency_seconds_bucket", "front", "0.02"): 1,
        ("ocl_edge_mask_latency_seconds_bucket", "front", "0.05"): 2,
        ("ocl_edge_mask_latency_seconds_bucket", "front", "2.0"): 2,
        ("ocl_edge_mask_latency_seconds_bucket", "front", "+Inf"): 3,
        ("ocl_edge_mask_latency_seconds_count", "front"): 3,
        ("ocl_edge_temperature_celsius", "cpu-thermal/0"): 51.5,
        ("ocl_edge_clock_hertz", "policy0"): 1510400000,
        ("ocl_edge_clock_hertz", "17000000.gpu"): 918000000,
    }
    assert {name: found[name] for name in expected} == expected
    assert found["ocl_edge_mask_latency_seconds_sum", "front"] == pytest.approx(3.057)
    assert not [name for name in found if "thermal_zone1" in name]


def test_outputs_of_a_camera_are_told_apart_by_their_names(tmp_path: Path) -> None:
    source = SilentSource()
    area, lanes = (StreamState("front", source, output=name) for name in ("area", "lanes"))
    area.add(result(LEARNED, 12.0))
    lanes.add(result(UNDONE, 12.0))
    with MetricsServer(ANY_PORT, [area, lanes], machine(tmp_path)) as server:
        found = values(scrape(server))
    assert found["ocl_edge_frames_total", "front", "area"] == 1
    assert found["ocl_edge_updates_total", "front", "area"] == 1
    assert found["ocl_edge_updates_total", "front", "lanes"] == 0
    assert found["ocl_edge_rollbacks_total", "front", "lanes"] == 1
    assert found["ocl_edge_mask_latency_seconds_count", "front", "lanes"] == 1


def test_the_dashboard_asks_for_nothing_that_is_not_there(tmp_path: Path) -> None:
    front = StreamState("front", SilentSource())
    front.add(result())
    with MetricsServer(ANY_PORT, [front], machine(tmp_path)) as server:
        known = {name for name, *_ in values(scrape(server))}
    dashboard = json.loads((ROOT / "examples/grafana/ocl-edge.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    named = {name for expression in asked for name in re.findall(r"ocl_edge_\w+", expression)}
    assert named, "the dashboard shows something"
    assert named <= known
    shown = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in known}
    assert {name.removesuffix("_bucket") for name in named} == shown, "and everything that there is"


def test_a_port_in_use_is_said_before_the_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"--metrics: port {port} is in use"):
            MetricsServer(Address("127.0.0.1", port), [])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9464", "127.0.0.1:9464"),
        ("9464", "127.0.0.1:9464"),
        ("0.0.0.0:1", "0.0.0.0:1"),
        ("[::1]:80", "[::1]:80"),
        ("localhost:80", "localhost:80"),
    ],
)
def test_without_a_host_it_is_this_machine(text: str, address: str) -> None:
    assert str(Address.parse(text, "--metrics")) == address


@pytest.mark.parametrize("text", ["", ":", "host:", ":99999", ":-1", "host:port", "a::", "१"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected :PORT"):
        Address.parse(text, "--metrics")


def test_loopback_is_told_from_the_rest() -> None:
    hosts = ("127.0.0.1", "127.1.2.3", "::1", "localhost", "0.0.0.0", "::", "192.168.0.2", "robot")
    assert [Address(host, 1).is_loopback for host in hosts] == [True] * 4 + [False] * 4


def test_a_scraper_that_stalls_delays_no_frame(tmp_path: Path) -> None:
    """It asks for the numbers, and reads nothing."""
    state = StreamState("front", SilentSource())
    with MetricsServer(ANY_PORT, [state], machine(tmp_path)) as server:
        stalled = [socket.create_connection(("127.0.0.1", server.address.port)) for _ in range(20)]
        for each in stalled[:10]:
            each.sendall(b"GET /metrics HTTP/1.1\r\n")
        for each in stalled[10:]:
            each.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        started = time.perf_counter()
        for _ in range(1000):
            state.add(result())
        assert time.perf_counter() - started < 0.5
        assert values(scrape(server))["ocl_edge_frames_total", "front"] == 1000
        for each in stalled:
            each.close()


def test_masks_that_a_sink_misses_are_counted() -> None:
    class Slow(QueuedSink):
        left_out = 7

    state = StreamState("front", SilentSource(), [Slow.__new__(Slow)])
    assert state.left_out == 7
