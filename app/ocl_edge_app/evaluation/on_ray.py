"""Runs passes as tasks of a Ray cluster: several at once, on this machine or on many.

A task gets the bundle's bytes from Ray's object store, and finds the frames by the name that the user gave
them. It refuses to run unless the hash of version, bundle, frames and labels is the one here, and every
library that computes has the same version: then its numbers are those of a local pass. A pass whose worker or
node dies is run again from its start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ocl_edge.errors import ClusterError, FrameError, PassError, UsageError
from ocl_edge_app.evaluation.passes import OnPass, OnSkip, Outcome, Pass
from ocl_edge_app.evaluation.ray_cluster import first_line
from ocl_edge_app.evaluation.ray_task import Done, Job, packed, run_job, versions_here

RETRIES = 3
"""How often a pass is run again whose worker or node died."""

LOOK_AGAIN_S = 5.0


class OnRay:
    """A runner on a cluster.

    Args:
        ray: connected; see `ocl_edge_app.evaluation.ray_cluster.connected`.
        patience_s: how long a cluster may have no node for the passes, before that is an error.
    """

    def __init__(self, ray: Any, patience_s: float = 120.0) -> None:
        self._ray = ray
        self._patience_s = patience_s
        self._task = ray.remote(run_job)
        self._bundles: dict[str, Any] = {}

    def run(self, passes: Iterator[Pass], on_pass: OnPass, on_skip: OnSkip) -> Iterator[tuple[Pass, Outcome]]:
        running: dict[Any, Pass] = {}
        placed_at = time.monotonic()
        while True:
            while len(running) < self._room() and (each := next(passes, None)) is not None:
                running[self._submit(each)] = each
            if not running:
                return
            ended, _ = self._ray.wait(list(running), timeout=LOOK_AGAIN_S)
            if ended or self._has_place(running):
                placed_at = time.monotonic()
            elif time.monotonic() - placed_at > self._patience_s:
                raise ClusterError(_no_place(running))
            for task in ended:
                each = running.pop(task)
                yield each, self._outcome(task, each, on_pass, on_skip)

    def _room(self) -> int:
        """Passes at once: one a CPU, and one that waits, so that no CPU does."""
        return int(self._ray.cluster_resources().get("CPU", 0)) + 1

    def _has_place(self, running: dict[Any, Pass]) -> bool:
        needed = min(each.threads for each in running.values())
        return any(node["Alive"] and node["Resources"].get("CPU", 0) >= needed for node in self._ray.nodes())

    def _submit(self, each: Pass) -> Any:
        scored = each.scored
        identity = scored.bundle.identity
        if identity not in self._bundles:
            self._bundles[identity] = self._ray.put(packed(scored.bundle))
        job = Job(
            each.trial,
            identity,
            [self._bundles[identity]],
            scored.named.absolute(),
            replace(scored.frames, pairs=()),
            scored.space,
            each.evaluation.context,
            versions_here(),
        )
        return self._task.options(num_cpus=each.threads, max_retries=RETRIES).remote(job)

    def _outcome(self, task: Any, each: Pass, on_pass: OnPass, on_skip: OnSkip) -> Outcome:
        on_frame = on_pass(each, False)
        try:
            done: Done = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return PassError(_why_it_died(error))
        for file, why in done.skipped.items():
            on_skip(file, FrameError(why))
        if done.cell is None:
            return (UsageError if done.usage else PassError)(done.refused)
        for result in done.cell["rounds"]:
            for _ in range(result["frames"]):
                on_frame(result["miou"])
        return done.cell


def _no_place(running: dict[Any, Pass]) -> str:
    needed = min(each.threads for each in running.values())
    return (
        f"{len(running)} passes wait, and no node that lives has the {needed} CPUs that one reserves "
        "(--threads); the results so far are kept"
    )


def _why_it_died(error: Exception) -> str:
    """Of a task without a result: its worker died too often, or code failed as nobody expected."""
    cause = getattr(error, "cause", None)
    text = first_line(cause or error)
    if "No module named 'ocl_edge" in str(error):
        return "a node has no ocl-edge: install the same version there"
    if cause is not None:
        return f"{type(cause).__name__}: {text}"
    return f"its worker or node died {RETRIES + 1} times: {text}"
