"""Every error that ocl-edge raises on purpose.

    OclEdgeError                exit code 1
    ├── UsageError              wrong arguments, exit code 2
    ├── MissingExtraError       a library is not installed
    ├── CheckpointError         a checkpoint that is damaged, foreign or of another shape
    ├── CaptureError            torch.export cannot capture the network
    ├── SplitError              the network cannot be cut into backbone, head and tail there
    ├── ParityError             an exported form differs from the network
    ├── BundleError             a bundle that is missing, damaged, tampered with or too new
    │   └── SignatureError      a bundle that is not signed by whom it should be
    ├── BackendError            a backend cannot run here, or got wrong tensors
    │   └── NoValidEngineError  no compiled engine fits this device, or it is damaged
    ├── BuildError              an engine could not be compiled
    ├── SourceError             a video or stream that cannot be opened, broke, or fell silent
    ├── StateError              a saved state that is damaged or of another bundle
    ├── FleetError              what a vehicle or the server of a fleet sent is refused
    ├── OutputError             a result cannot be written
    ├── ClusterError            a Ray cluster that is not there, or has no place for a pass
    ├── PassError               passes of an evaluation failed, each named
    └── FrameError              a frame that cannot be read or used; a run skips it

A message says what was expected, what was found, and what to do.
"""

from __future__ import annotations


class OclEdgeError(Exception):
    exit_code = 1


class UsageError(OclEdgeError):
    exit_code = 2


def require(right: bool, name: str, what: str, found: object) -> None:
    """Refuse an option by its name.

    Raises:
        UsageError: not ``right``.
    """
    if not right:
        raise UsageError(f"{name} must be {what}, got {found!r}")


class MissingExtraError(OclEdgeError):
    """A heavy library is absent; the message holds the command that installs it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}: pip install 'ocl-edge[{extra}]'")


class CheckpointError(OclEdgeError):
    pass


class CaptureError(OclEdgeError):
    pass


class SplitError(OclEdgeError):
    pass


class ParityError(OclEdgeError):
    pass


class BundleError(OclEdgeError):
    pass


class SignatureError(BundleError):
    pass


class BackendError(OclEdgeError):
    pass


class NoValidEngineError(BackendError):
    pass


class BuildError(OclEdgeError):
    pass


class SourceError(OclEdgeError):
    pass


class StateError(OclEdgeError):
    pass


class FleetError(OclEdgeError):
    pass


class OutputError(OclEdgeError):
    pass


class ClusterError(OclEdgeError):
    pass


class PassError(OclEdgeError):
    pass


class FrameError(OclEdgeError):
    pass
