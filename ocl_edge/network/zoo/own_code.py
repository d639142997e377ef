"""Networks that the command line names outside of the zoo: the user's own code, and libraries' networks.

path/to/file.py:function        modules beside the file are found; in a package, relative ones too
package.module:function         as Python would import it here
torchvision:NAME                of torchvision.models.segmentation
smp:CLASS                       of segmentation_models_pytorch
transformers:DIRECTORY          a config.json of transformers, for semantic segmentation
timm:ENCODER                    of timm, with a head of one layer, or of your own (head=file.py:function)
ultralytics:FILE.yaml           of ultralytics, for semantic segmentation
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ocl_edge.errors import UsageError
from ocl_edge.network.zoo.libraries import LIBRARIES, Factory

PACKAGES = f"{os.sep}site-packages{os.sep}"
NOT_THE_USERS = (
    sysconfig.get_paths()["stdlib"],
    *(str(Path(__file__).parents[3] / folder) for folder in ("ocl_edge", "export", "runtime", "app")),
)


def split_factory(text: str) -> tuple[str, str]:
    """A spec -> its factory, and what follows: arguments, after ``:`` or, of a library's network, ``,``."""
    place, colon, rest = text.partition(":")
    if place in LIBRARIES:
        name, mark = re.split("[:,]", rest, maxsplit=1)[0], len(f"{place}:")
        return f"{place}:{name}", text[mark + len(name) + 1 :]
    if ".py:" in text:
        file, _, rest = text.partition(".py:")
        name, _, arguments = rest.partition(":")
        return f"{file}.py:{name}", arguments
    name, _, arguments = rest.partition(":")
    return f"{place}{colon}{name}", arguments


def build_own(factory: str, arguments: dict[str, Any]) -> nn.Module:
    """Call what a factory names.

    Raises:
        UsageError: it is not there, not installed, fails, ends the program, or gives no network.
    """
    place, _, name = factory.rpartition(":")
    library = LIBRARIES.get(place)
    try:
        with _importable(Path(place)):
            function = library(name) if library else _function(place, name)
            if place == "timm" and isinstance(head := arguments.get("head"), str):
                arguments = {**arguments, "head": partial(_own_head, split_factory(head)[0])}
            network = function(**arguments)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"--arch {factory}: {type(error).__name__}: {error}{where_in_user_code(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"--arch {factory} returned a {type(network).__name__}, expected a torch.nn.Module")
    return network


def _own_head(factory: str, **arguments: Any) -> nn.Module:
    return build_own(factory, arguments)


def _function(place: str, name: str) -> Factory:
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module_by_name(place)
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"--arch {place}:{name}: {place} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def _module_of_file(path: Path) -> ModuleType:
    """The file as a module of its package where there is an ``__init__.py`` beside it, else by itself."""
    if not path.is_file():
        raise UsageError(f"--arch: there is no file {path}")
    name = ".".join(path.resolve().relative_to(_root_of(path)).with_suffix("").parts)
    if "." in name:
        return _module_by_name(name)
    # under a name of its own: net.py must not be taken for an installed module net
    spec = importlib.util.spec_from_file_location(f"ocl_edge_user_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _not_imported(str(path), error) from error
    return module


def _module_by_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _not_imported(name, error) from error


def _not_imported(what: str, error: BaseException) -> UsageError:
    return UsageError(
        f"--arch: {what} cannot be imported: {type(error).__name__}: {error}{where_in_user_code(error)}"
    )


def _root_of(path: Path) -> Path:
    """The folder that imports of a file start from: above the outermost package that it lies in."""
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


@contextmanager
def _importable(path: Path) -> Iterator[None]:
    """While it lasts, a file's neighbours can be imported; a module's name is looked up where we are."""
    added = str(_root_of(path)) if path.suffix == ".py" else str(Path.cwd())
    sys.path.insert(0, added)
    try:
        yield
    finally:
        sys.path.remove(added)


def where_in_user_code(error: BaseException) -> str:
    """A line with FILE:LINE and code of the innermost frame that is not ours or a library's, or ''."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if not f.filename.startswith(("<", *NOT_THE_USERS)) and PACKAGES not in f.filename
    ]
    return f"\n  in {own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
