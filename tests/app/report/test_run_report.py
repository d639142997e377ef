"""The page of a run whose course is known."""

from __future__ import annotations

import numpy as np

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.verdict import Reason, Signals, Verdict, Violation
from ocl_edge_app.report import Section, render_page
from ocl_edge_app.report.recorder import RunRecorder
from ocl_edge_app.report.run_report import Ran, run_page
from ocl_edge_runtime.loop import RunReport
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.session.opening import open_session
from tests.app.html_rules import checked
from tests.doubles.images import random_image


def test_every_undone_update_has_its_reason(small_bundle: Bundle) -> None:
    report, recorder = RunReport(seconds=10.0), RunRecorder()
    for index in range(100):
        verdict, timings = Verdict(Reason.NO_TIME, needed_ms=index, left_ms=0.0), {"backbone": 30.0}
        if index % 10 == 3:
            signals = Signals(0.1, index / 100, 1.0, 0.1)
            verdict = Verdict(Reason.ROLLED_BACK, None, signals, Violation.SHARE_GAIN)
            timings = {"decode": 2.0, "backbone": 30.0, "loss": 4.0}
        mask = np.zeros((40, 50), np.uint8)
        result = FrameResult(mask, verdict, timings, late=index == 5)
        report.add(result)
        recorder.frame(Frame(random_image(index), index, f"frame_{index}", 0.0), result)
    ran = Ran(open_session(small_bundle), report, recorder, 50.0)
    page = checked(render_page(run_page({"": {"": ran}}, Section("", []))))
    assert "roll back 10 10.0 %" in page.text
    assert "no time 90 90.0 %" in page.text
    for index in range(3, 100, 10):
        assert f"{index} (frame_{index}) roll back a class gained {index} % of the pixels" in page.text
    assert "In all: 10 roll back." in page.text
    assert "updates kept 0 10 undone by the guard" in page.text
    assert "0 skipped, 0 dropped, 1 late" in page.text
    assert "loss – 4.00" in page.text
    assert "frames per second 10.0" in page.text


def test_a_run_that_was_stopped_at_once_has_a_page(small_bundle: Bundle) -> None:
    ran = Ran(open_session(small_bundle), RunReport(stopped=True), RunRecorder())
    page = run_page({"": {"": ran}}, Section("", []))
    assert "stopped by a signal before the end" in checked(render_page(page)).text
