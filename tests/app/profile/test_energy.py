"""Energy of machines that tell it, and of those that do not; file systems are drawn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ocl_edge_app.profile.energy import CountedEnergy, SampledPower, open_meter

NO_GPU = SimpleNamespace()


def write(root: Path, **files: object) -> None:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


RAPL = "sys/class/powercap/intel-rapl:0/"
RAIL = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/"


def test_a_processor_counts_microjoules_and_begins_anew(tmp_path: Path) -> None:
    counter = tmp_path / RAPL / "energy_uj"
    write(tmp_path, **{f"{RAPL}name": "package-0", f"{RAPL}max_energy_range_uj": 10_000_000})
    write(tmp_path, **{f"{RAPL}energy_uj": 9_000_000})
    meter, name = open_meter(tmp_path, NO_GPU)
    assert meter is not None
    assert name == "processor (package-0)"
    assert meter.joules() == 0
    counter.write_text("9500000")
    assert meter.joules() == pytest.approx(0.5)
    counter.write_text("1000000")  # past its range
    assert meter.joules() == pytest.approx(2.0)


def test_a_jetson_s_input_rail_is_volts_times_amperes(tmp_path: Path) -> None:
    write(tmp_path, **{f"{RAIL}in1_label": "VDD_CPU", f"{RAIL}in1_input": 1000, f"{RAIL}curr1_input": 1})
    write(tmp_path, **{f"{RAIL}in2_label": "VDD_IN", f"{RAIL}in2_input": 5000, f"{RAIL}curr2_input": 2000})
    meter, name = open_meter(tmp_path, NO_GPU)
    assert isinstance(meter, SampledPower)
    assert name == "module (VDD_IN)"
    assert meter.watts() == pytest.approx(10.0)


def test_watts_last_from_one_reading_to_the_next() -> None:
    now, watts = [0.0], [10.0]
    meter = SampledPower("", lambda: watts[0], lambda: now[0])
    now[0], watts[0] = 2.0, 20.0
    assert meter.joules() == pytest.approx(30.0)
    now[0] = 3.0
    assert meter.joules() == pytest.approx(50.0)


def test_a_gpu_counts_millijoules(tmp_path: Path) -> None:
    counted = iter([1000, 3500])
    gpu = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(counted),
    )
    meter, name = open_meter(tmp_path, gpu)
    assert isinstance(meter, CountedEnergy)
    assert name == "GPU 0"
    assert meter.joules() == pytest.approx(2.5)


def test_a_machine_that_tells_nothing_says_why(tmp_path: Path) -> None:
    meter, reasons = open_meter(tmp_path, NO_GPU)
    assert meter is None
    assert "no power rail" in reasons
    assert "RAPL" in reasons
    write(tmp_path, **{f"{RAIL}in1_label": "VDD_IN", f"{RAIL}in1_input": "broken", f"{RAPL}energy_uj": "x"})
    assert open_meter(tmp_path, NO_GPU)[0] is None
