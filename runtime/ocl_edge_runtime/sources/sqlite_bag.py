"""Messages of a ``.db3`` file, in which ROS 2 recorded until Humble."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from ocl_edge.errors import SourceError
from ocl_edge.given_files import open_given, reason_of
from ocl_edge_runtime.sources.bag_topics import Message, Topic

LARGEST_MESSAGE = 1 << 28
TABLES = ("topics", "messages")


class SqliteBag:
    """One database. It is opened to read only, and what it could compute by itself is not asked for.

    Args:
        path: of the file.

    Raises:
        SourceError: it cannot be opened, or is no such database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            open_given(path).close()
            # a journal beside it holds what was written last before a crash
            whole = not Path(f"{path}-wal").exists()
            location = f"file:{quote(str(path))}?mode=ro{'&immutable=1' if whole else ''}"
            self._database = sqlite3.connect(location, uri=True, check_same_thread=False)
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {reason_of(error)}") from error
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        try:
            self._database.execute("PRAGMA trusted_schema = OFF")
            self._database.execute(
                "PRAGMA writable_schema = ON"
            )  # else a shortened file gives nothing at all
            self._check_tables()
        except (sqlite3.Error, SourceError) as error:
            self._database.close()
            raise error if isinstance(error, SourceError) else self._damaged(error) from error

    def topics(self) -> list[Topic]:
        try:
            rows = self._database.execute("SELECT name, type, serialization_format FROM topics").fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        return [Topic(str(name), str(kind), str(encoding), None) for name, kind, encoding in rows]

    def messages(self, topic: str) -> Iterator[Message]:
        """Of one topic, in the order in which they were written.

        Raises:
            SourceError: the file is damaged there.
        """
        try:
            for recorded_ns, data in self._database.execute(
                "SELECT timestamp, CASE WHEN length(data) <= ? THEN data ELSE x'' END FROM messages "
                "WHERE topic_id IN (SELECT id FROM topics WHERE name = ?) ORDER BY rowid",
                (LARGEST_MESSAGE, topic),
            ):
                if not isinstance(recorded_ns, int) or not isinstance(data, bytes):
                    raise SourceError(f"{self.path} is damaged: a message is {type(data).__name__}")
                yield Message(recorded_ns, data)
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        self._database.close()

    def _check_tables(self) -> None:
        """Plain tables: a view or a virtual table could compute for hours."""
        for name in TABLES:
            found = self._database.execute(
                "SELECT type, rootpage FROM sqlite_master WHERE name = ?", (name,)
            ).fetchall()
            if len(found) != 1 or found[0][0] != "table" or not found[0][1]:
                raise SourceError(f"{self.path} is no recording of ROS 2: it has no table {name!r}")
            columns = self._database.execute(f"PRAGMA table_xinfo({name})").fetchall()
            if any(hidden for *_, hidden in columns):
                raise SourceError(f"{self.path}: the table {name!r} has columns that are computed")

    def _damaged(self, error: sqlite3.Error) -> SourceError:
        return SourceError(f"{self.path} is damaged: {error}")
