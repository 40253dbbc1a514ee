"""Where the state of a sync is kept: what a store must do, and the one in an SQLite file."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar, runtime_checkable

from .._errors import InvalidInput, StoreError
from .._http.lifetime import ended

T = TypeVar("T")

_APPLICATION: Final = 0x6E703673  # "np6s", in the header of the file
_VERSION: Final = 1
_SMALLEST: Final = 512  # the smallest page there is
_REASONS: Final = {
    sqlite3.SQLITE_BUSY: "is in use by another run or another program; try again when that has ended",
    sqlite3.SQLITE_NOTADB: "is not the state of a sync but some other file; give another path",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a copy of it, or remove it to fetch everything again",
    sqlite3.SQLITE_FULL: "cannot be written: the disk is full",
    sqlite3.SQLITE_READONLY: "cannot be written: it is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_IOERR: "cannot be read or written: its disk or file system fails",
}


@runtime_checkable
class Store(Protocol):
    """A few bytes by name, for one run at a time.

    `SQLiteStore` keeps them in a file. To keep them elsewhere, in Redis or PostgreSQL, implement these four coroutines:
    names are short texts, values opaque bytes (17 for most contacts, up to 600 KB for the account and 200 KB for each
    part of its overlap), and all of them belong to one sync. The names contain the contacts as they are named, so a
    store holds personal data where these are addresses.

    Errors should be raised as `StoreError`; any exception ends the run.
    """

    async def open(self) -> None:
        """Start a run. Keep out other runs until `close`, those of other processes included, by raising an error."""

    async def read(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """The bytes last written under these names, at most 500 of them; leave out names without any."""
        ...

    async def write(self, values: Mapping[str, bytes]) -> None:
        """Save the values, all or none of them, and return when they are safe."""

    async def close(self) -> None:
        """End the run, so that another may `open`. Not called where `open` has failed."""


class SQLiteStore:
    """A `Store` in the file at `path`, which is created unless it exists, used if it is empty, and made readable by its
    owner alone (0600).

    During a run the file is locked, for other processes too, and there are files beside it, ``-wal`` and perhaps
    ``-journal``; afterwards it is one file again. After a kill those stay, belong to it, and the next run absorbs them.
    Copy the file between runs. It holds the contacts as they are named, e-mail addresses included; of events it holds
    only 16-byte digests of the ids of the latest.

    Where the file, or the one beside it, is removed, renamed or replaced during a run, the next save ends the run: no
    later run would know of what it delivers. A file that is read-only is refused at the start of a run.

    What was written survives whatever happens to the process (kill -9), and a failure of the machine if its disk keeps
    what it has acknowledged (``synchronous=FULL``: each write waits for the disk).

    Raises `StoreError` where the file is in use, belongs to another program, was made by another version, is not there
    any more, or cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise InvalidInput(f"the state of a sync needs the path of a file, not {path!r}")
        # Absolute, because SQLite does not take ":memory:" and "" for names of files.
        self._path = Path(path).absolute()
        self._thread: ThreadPoolExecutor | None = None
        self._opened: sqlite3.Connection | None = None
        self._files: dict[Path, os.stat_result] = {}  # those in use, as they were last seen

    async def open(self) -> None:
        """See `Store`."""
        if self._thread is not None:
            raise StoreError(f"{self._path} {_REASONS[sqlite3.SQLITE_BUSY]}")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="np6_async state")
        try:
            await self._call(self._open)
        except BaseException:
            await self.close()
            raise

    async def read(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """See `Store`."""
        return await self._call(lambda: self._read(names))

    async def write(self, values: Mapping[str, bytes]) -> None:
        """See `Store`."""
        await self._call(lambda: self._write(values))

    async def close(self) -> None:
        """See `Store`; safe to call twice."""
        if self._thread is not None:
            try:
                await self._call(self._close)
            finally:
                thread, self._thread = self._thread, None
                thread.shutdown()

    async def _call(self, call: Callable[[], T]) -> T:
        """`call` in the store's thread. Waits for it even if cancelled: else nobody would know what was written."""
        if self._thread is None:
            raise StoreError(f"{self._path} is not open: a store is used by the run of a Sync")
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._explained, call)
        return await ended(future)

    # In the thread

    def _explained(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without SQLite's details
            reason = _REASONS.get(code) or f"fails: {getattr(error, 'sqlite_errorname', type(error).__name__)}"
            problem = f"{self._path} {reason}"
        except OSError as error:
            problem = f"{self._path} cannot be {'created' if self._opened is None else 'used'}: {error.strerror}"
        raise StoreError(problem)

    def _open(self) -> None:
        # Not an existing file: opening and closing it would drop the locks that this process has on it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if 0 < self._path.stat().st_size < _SMALLEST:  # SQLite takes a file of one byte for an empty one
            raise StoreError(f"{self._path} {_REASONS[sqlite3.SQLITE_NOTADB]}")
        database = self._opened = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        # Before the first access: SQLite then keeps the lock, and needs no shared memory, which is another file.
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        with _transaction(database):
            self._check_or_create(database)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        # What an earlier run has left beside the file comes into it first. On a disk that is nearly full, each run
        # would add to it, and leave no room.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with _transaction(database):
            # Of a file that is read-only, nothing before the first write would say so.
            database.execute(f"PRAGMA user_version={_VERSION}")
        self._files = {}
        self._remember_files()

    def _check_or_create(self, database: sqlite3.Connection) -> None:
        def number(query: str) -> int:
            value: int = database.execute(query).fetchone()[0]
            return value

        application, version = number("PRAGMA application_id"), number("PRAGMA user_version")
        if not (application or version or number("SELECT count(*) FROM sqlite_master")):
            self._make_private()
            database.execute("CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            database.execute(f"PRAGMA application_id={_APPLICATION}")
            database.execute(f"PRAGMA user_version={_VERSION}")
        elif application != _APPLICATION:
            raise StoreError(f"{self._path} {_REASONS[sqlite3.SQLITE_NOTADB]}")
        elif version != _VERSION:
            raise StoreError(
                f"{self._path} is a state of version {version}, and this version of np6_async reads {_VERSION}; "
                "use the version that made it, or another file to fetch everything again"
            )

    def _make_private(self) -> None:
        """For an empty file that existed, and that others may be allowed to read."""
        try:
            self._path.chmod(0o600)
        except OSError as error:
            problem = f"{self._path} cannot be made readable by its owner alone: {error.strerror}"
        else:
            return
        raise StoreError(problem)

    @property
    def _database(self) -> sqlite3.Connection:
        assert self._opened is not None
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            database, self._opened = self._opened, None
            database.close()

    def _remember_files(self) -> None:
        for file in (self._path, Path(f"{self._path}-wal")):
            if file not in self._files and file.exists():  # the one beside it is there from the first write on
                self._files[file] = file.stat()

    def _check_files(self) -> None:
        """Raise `StoreError` where a name leads to another file than at the start: SQLite would go on with that one."""
        for file in self._files:
            self._check_file(file, same_size=file == self._path)

    def _check_file(self, file: Path, *, same_size: bool) -> None:
        reason = "was removed or renamed"
        with suppress(FileNotFoundError):
            known, found = self._files[file], file.stat()
            if os.path.samestat(known, found) and (not same_size or known.st_size == found.st_size):
                self._files[file] = found
                return
            reason = "was replaced, or written to by another program,"
        raise StoreError(
            f"{file} {reason} during the run, which can save no more progress; put back the file that was there, or "
            "the next run delivers events that were delivered already"
        )

    def _read(self, names: Sequence[str]) -> dict[str, bytes]:
        self._check_files()
        query = "SELECT name, value FROM state WHERE name IN (SELECT value FROM json_each(?))"
        with closing(self._database.execute(query, [json.dumps(names)])) as rows:
            return dict(rows)

    def _write(self, values: Mapping[str, bytes]) -> None:
        self._check_files()
        with _transaction(self._database):
            self._database.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", values.items())
        # As for the file beside it, what was saved is there anyway: SQLite holds it open, and moves it into this one.
        self._check_file(self._path, same_size=False)
        self._remember_files()


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Everything that is done inside, or nothing."""
    database.execute("BEGIN EXCLUSIVE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")
