"""Estimates of a device's time from an engine's plan."""

from __future__ import annotations

import pytest

from ocl_edge.errors import UsageError
from ocl_edge.tensorrt.plan import Kernel
from ocl_edge_app.profile.estimate import DEVICES, Device, find_device

DEVICE = Device("a GPU", 100.0, {"fp32": 2.0, "fp16": 16.0}, launch_us=3.0)


def test_a_kernel_takes_its_bytes_or_its_operations_whichever_is_longer() -> None:
    moves = Kernel(kind="kgen", bytes=50_000_000, operations=10)
    computes = Kernel(kind="correlation", bytes=1000, operations=4_000_000_000)
    assert DEVICE.kernel_ms(moves, "fp32") == pytest.approx(0.5 + 0.003)
    assert DEVICE.kernel_ms(computes, "fp32") == pytest.approx(2.0 + 0.003)


def test_only_convolutions_and_products_run_on_tensor_cores() -> None:
    work = {"bytes": 8, "operations": 4_000_000_000}
    assert DEVICE.kernel_ms(Kernel(kind="correlation", **work), "fp16") == pytest.approx(0.25 + 0.003)
    assert DEVICE.kernel_ms(Kernel(kind="kgen", **work), "fp16") == pytest.approx(2.0 + 0.003)


def test_every_device_of_the_table_has_a_peak_for_every_precision() -> None:
    for device in DEVICES.values():
        assert set(device.peaks) == {"fp32", "fp16", "bf16", "int8"}


def test_a_device_that_is_not_in_the_table_is_told_by_two_numbers() -> None:
    device = find_device("204.8:5.3")
    assert (device.bandwidth, device.peaks["fp32"]) == (204.8, 5.3)


@pytest.mark.parametrize("words", ["orin", "204.8", "0:5", "5:-1", "nan:1", "1:inf", "a:b", ""])
def test_other_words_are_refused_with_the_names_that_are_known(words: str) -> None:
    with pytest.raises(UsageError, match=r"agx-orin, orin-nx.*--estimate 204.8:5.3"):
        find_device(words)
