"""Messages as Flower carries them: one config record of plain values, taken apart into a few small objects.

Written for Flower 1.42; no other version's objects were looked at.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ocl_edge.errors import FleetError, MissingExtraError
from ocl_edge_app.fleet.messages import Fields

RECORD = "ocl-edge"
MESSAGE_TYPE = "query"
MOST_OBJECTS = 8
"""Of one message: the message, its record dict and its record, and room for a few."""

MOST_BODY_BYTES = 64 << 20
"""Of one HTTP request or object, however large a head is."""


def flower() -> None:
    """Import Flower, which then tells nobody that it was used.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("flwr") is None:
        raise MissingExtraError("flwr", "fleet", "a fleet")
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    import_module("flwr.supercore")  # which sets how much is logged
    logging.getLogger("flwr").setLevel(logging.CRITICAL)


def record_of(fields: Fields) -> Any:
    """The content of a Flower message."""
    from flwr.app import ConfigRecord, RecordDict

    return RecordDict({RECORD: ConfigRecord(dict(fields))})


@contextmanager
def taken_apart(message: Any) -> Iterator[tuple[dict[str, bytes], Any]]:
    """The objects of a message that is about to be sent, by their ids, and the tree of these."""
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        no_object_id_recompute,
    )

    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = {name: each.deflate() for name, each in get_all_nested_objects(message).items()}
        yield objects, get_object_tree(message)


def put_together(message_id: str, tree: Any, pull: Callable[[str], bytes]) -> tuple[Any, Fields]:
    """A message that came, and its fields.

    Args:
        message_id: of the message.
        tree: of its objects, as the sender announced it.
        pull: object by id.

    Raises:
        FleetError: it is incomplete, too large, or none of ours.
    """
    from flwr.app import ConfigRecord
    from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

    names = []
    for each in iterate_object_tree(tree):
        names.append(each.object_id)
        if len(names) > MOST_OBJECTS:
            raise FleetError(f"a message of more than {MOST_OBJECTS} objects came")
    contents = {name: pull(name) for name in names}
    if any(not content for content in contents.values()):
        raise FleetError("the upload was cut off: a part of the message never came")
    if sum(map(len, contents.values())) > MOST_BODY_BYTES:
        raise FleetError(f"a message of more than {MOST_BODY_BYTES:,} bytes came")
    try:
        message: Any = inflate_object_from_contents(message_id, contents)
        message.metadata.__dict__["_message_id"] = message_id
        record = message.content[RECORD]
    except Exception as error:  # whatever their parsers raise
        raise FleetError(f"a message of another form came: {type(error).__name__}: {error}") from error
    if not isinstance(record, ConfigRecord):
        raise FleetError(f"a message holds {type(record).__name__} as {RECORD}, expected plain fields")
    return message, dict(record)
