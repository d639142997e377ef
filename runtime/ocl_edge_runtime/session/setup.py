"""What a session runs, as options and bundle determine it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.guard import GuardLimits
from ocl_edge.method.methods import OCL_HEAD, Method, find_method
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions, Views

LEAST_RATIO = 2.0
"""The guard lets the entropy double, and halve, whatever home frames have shown."""
DECIDES = ("tau_s", "loss_stride", "statistics_limit", "guarded", "update")
"""The realtime options that the learned state depends on, beside the guard's limits and ``norm_every``."""


@dataclass(frozen=True)
class Setup:
    """What a session runs.

    Attributes:
        bundle: it.
        options: as they were given.
        realtime: None in paper and frozen mode.
        views: what a frame is shown as.
        backend_name: of the one that was opened.
        passed_over: why faster ones were not, name -> reason.
        chosen_because: why ``auto`` took it; empty for a named backend.
    """

    bundle: Bundle
    options: SessionOptions
    realtime: RealtimeOptions | None
    views: Views
    backend_name: str
    passed_over: dict[str, str]
    chosen_because: str

    @property
    def method(self) -> Method:
        return find_method(self.options.method)

    @property
    def settings(self) -> AdaptationDefaults:
        """What the method adapts with."""
        settings = self.options.settings_over(self.bundle.manifest.adaptation)
        return settings if self._found_rate is None else settings.model_copy(update={"lr": self._found_rate})

    @property
    def _found_rate(self) -> float | None:
        """The head's rate that home frames have found; None where there is none, or another was asked for."""
        home = self.bundle.manifest.home
        if home is None or home.head is None or self.options.lr is not None or self.method != OCL_HEAD:
            return None
        return home.head.lr

    @property
    def guard_limits(self) -> GuardLimits:
        """Those that were asked for, else the bundle's.

        A network that is sure of everything has a mean entropy near 0, whose ratio moves far: what updates on
        corrupted home frames reached is healthy there, and so is as much again.
        """
        assert self.realtime is not None
        if self.realtime.limits is not None:
            return self.realtime.limits
        home = self.bundle.manifest.home
        reached = home.head.entropy_ratio if home is not None and home.head is not None else None
        return GuardLimits() if reached is None else GuardLimits(entropy_ratio=max(LEAST_RATIO, reached**2))

    @property
    def _limits(self) -> dict[str, Any]:
        return {"limits": asdict(self.guard_limits)}

    @property
    def updates_in_background(self) -> bool:
        return self.realtime is not None and self.realtime.update == "background" and self.trains

    @property
    def follows_home(self) -> bool:
        """Whether the opening follows the distance from home, and updates go by stream time."""
        return self.options.opening == "auto"

    @property
    def frame_s(self) -> float | None:
        """Seconds of stream time from a frame to the next; None where the frames' arrival tells."""
        if not self.follows_home:
            return None
        return self.options.frame_s or (1.0 if self.realtime is None else None)

    @property
    def mask_size(self) -> tuple[int, int] | None:
        """Height and width of every mask; None where it is the frame's."""
        wanted, network = self.options.mask_size, self.bundle.manifest.input
        if isinstance(wanted, tuple):
            return wanted
        return (network.height, network.width) if wanted == "network" else None

    @property
    def trains(self) -> bool:
        """Whether the method has anything to update, and it earns its place."""
        return self.method.learns and self._found_rate != 0

    def belongs_to(self) -> dict[str, Any]:
        """What a saved state is bound to."""
        return {"bundle": self.bundle.network, "method": self.method.name}

    def _fleet(self) -> dict[str, Any]:
        fleet = self.bundle.manifest.fleet
        return {"fleet": fleet.version} if fleet else {}

    def facts(self) -> dict[str, Any]:
        """For reports: everything that the results depend on, as it was chosen."""
        return {
            **self.belongs_to(),
            **self._fleet(),
            "views": self.views,
            "backend": self.backend_name,
            "head": self.options.head,
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.options.seed,
            "threads": self.options.threads,
            "precision": self.options.precision,
            "opening": self.options.opening,
            "mask_size": self.options.mask_size,
            **({"realtime": asdict(self.realtime) | self._limits} if self.realtime else {}),
        }

    def what_decides(self) -> dict[str, Any]:
        """What the learned state depends on, beside the frames, what time decided, and the state before."""
        decides = {
            **self.belongs_to(),
            **self._fleet(),
            "backend": self.backend_name,
            "head": self.options.head,
            **self.settings.model_dump(mode="json"),
            "opening": self.options.opening,
            **({"frame_s": self.frame_s} if self.follows_home else {}),
        }
        if self.realtime is None:
            return decides
        return {
            **decides,
            **{name: getattr(self.realtime, name) for name in DECIDES},
            **self._limits,
            "norm_every": self.realtime.norm_every,
        }


def notes_on(bundle: Bundle, options: SessionOptions) -> list[str]:
    """What the user should know of how far a bundle can tell home from away."""
    norms, home = bundle.manifest.norms, bundle.manifest.home
    if options.opening != "auto" or not find_method(options.method).modulates_norms:
        return []
    if not norms and home is None:
        return [
            "this network has no norms that remember home: nothing adapts until ocl-edge calibrate BUNDLE "
            "--frames DIR has measured it, with frames like those that the network was trained on; "
            "--opening 1 adapts the head on every frame"
        ]
    if norms and not bundle.manifest.sensing_norms:
        return [
            "no norm of this network sees the image unmixed, so nothing tells home from away: nothing "
            "adapts; --opening 1 adapts on every frame"
        ]
    if norms and norms[0].sensing is None:
        return [
            "the bundle is older than --opening auto: its first norm alone tells home from away; export it "
            "again for all that can, or --opening 1 adapts on every frame as before"
        ]
    if home is None:
        return [
            "the bundle does not know home: ocl-edge calibrate BUNDLE --frames DIR, with frames like those "
            "that the network was trained on, fits the norms and finds whether the head earns its place"
        ]
    learns = find_method(options.method) == OCL_HEAD and options.lr is None
    if learns and home.head is not None and home.head.lr == 0:
        head = f"the head of {bundle.output}" if bundle.output else "the head"
        return [f"{head} gained nothing on corrupted home frames: the norms adapt, it stays as trained"]
    return []
