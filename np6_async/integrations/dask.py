"""Exports and syncs by workers in other processes, by Dask distributed: those of one machine, or of a cluster.

::

    from distributed import Client
    from np6_async.integrations.dask import ExportSpec, export

    with Client("tcp://10.0.0.7:8786") as client:
        report = export(client, ids, ExportSpec("s3://bucket/january", "bounces", {"format": "parquet"}))

Extra: ``np6_async[dask]``. `LocalWorkers` starts processes on this machine, `RemoteWorkers` uses the cluster of a
scheduler that is running, and `DaskExecutor` one that the program is already connected to: each of them is an
`executor` of `Export` and `SyncWriter`.

The same version of np6_async is to be installed in all workers, with ``NP6_API_KEY`` or ``NP6_API_KEY_FILE`` set: the
key is not sent. Who reaches a scheduler can run code in its workers, and reads what is sent to them, which is contacts
and, with ``personal="hash"``, the key of the hashes: outside of a network that is yours alone, use ``tls://``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from attrs import Factory, field, frozen

from .. import ConfigError, EventKind, InvalidInput, NP6Client
from .._streams.contact_queue import ContactIterable
from ..export import Export, ExportReport, WorkersLost

try:
    from distributed import Client, Security
except ModuleNotFoundError:
    raise ConfigError("workers in other processes need Dask: pip install 'np6_async[dask]'") from None

from ._dask_calls import Calls
from ._dask_processes import processes, silence

__all__ = ["DaskExecutor", "ExportSpec", "LocalWorkers", "RemoteWorkers", "export"]

_LIMIT = 1024  # processes of one machine


class DaskExecutor(Calls):
    """The workers of a client of Dask, which remains yours to close.

    `client` is a ``distributed.Client``, made with ``asynchronous=True`` on the event loop that this is used on. Raises
    ConfigError for any other.
    """

    def __init__(self, client: Client) -> None:
        if not isinstance(client, Client):
            raise ConfigError(f"a DaskExecutor takes a distributed.Client, not {type(client).__name__}")
        super().__init__()
        self._given = client

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        if not self._given.asynchronous:
            raise ConfigError(
                "the client of Dask is not asynchronous, or belongs to another event loop: make it with "
                "`await Client(..., asynchronous=True)` where it is used"
            )
        yield self._given


class RemoteWorkers(Calls):
    """The workers of the scheduler at `address`: ``tcp://host:port``, or ``tls://host:port`` with `security`.

    `security` is a ``distributed.Security`` with the certificates; without it, Dask's own configuration counts. The
    connection is waited for `timeout` seconds. Workers may come and go. While this is entered, Dask logs nothing to
    the terminal.

    Raises ConfigError for an address of another form.
    """

    def __init__(self, address: str, *, security: Security | None = None, timeout: float = 30) -> None:
        super().__init__()
        if not _is_address(address):
            given = "one with credentials" if "@" in str(address) else repr(address)
            raise ConfigError(f"the address of Dask's scheduler is tcp://host:port or tls://host:port, not {given}")
        self._address, self._security, self._timeout = address, security, timeout

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        async with AsyncExitStack() as stack:
            stack.enter_context(silence())
            connecting = _connected(self._address, security=self._security, timeout=self._timeout)
            try:
                client = await stack.enter_async_context(connecting)
            except (OSError, RuntimeError, TypeError, ValueError) as error:  # the last ones: of certificates
                raise WorkersLost(f"no scheduler of Dask can be reached at {self._address}: {error}") from None
            yield client


class LocalWorkers(Calls):
    """`count` processes on this machine, from 1 to 1024, which end with the ``async with``, and with this process.

    Each makes one call at a time. They listen on the loopback interface alone, with certificates made for the occasion,
    ignore Ctrl-C, which reaches them too in a terminal, and have no limit of memory. One that dies is replaced. While
    this is entered, Dask logs nothing to the terminal.

    Raises ConfigError for another count.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _LIMIT:
            raise ConfigError(f"the number of processes must be from 1 to {_LIMIT}, not {count!r}")
        self._count = count

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        async with processes(self._count) as cluster, _connected(cluster) as client:
            yield client


@asynccontextmanager
async def _connected(target: Any, **options: Any) -> AsyncIterator[Client]:
    """A client, which is closed also where it cannot connect, or is cancelled meanwhile."""
    client = Client(target, name="np6", asynchronous=True, set_as_default=False, **options)
    try:
        await client
        yield client
    finally:
        closing: Any = client.close()
        await closing


@frozen
class ExportSpec:
    """What `export` is to do: the events of this `kind` of the contacts, into files of `folder`.

    - `folder` is one that all workers and this process see, such as one of an object store.
    - `options`: those of `Export`, such as ``{"start": "2026-01-01", "format": "parquet", "shard_size": 20_000}``.
    - `client`: those of the `NP6Client` in each process, such as ``{"concurrency": 32}`` or, for the rate limit that
      all of them share, ``{"rate_limiter": SharedLimit("redis://10.0.0.8:6379")}``. The API key is not among them: it
      is set where the workers run, and here.

    Raises `InvalidInput` for options that `export` sets itself.
    """

    folder: str
    kind: str = EventKind.ALL
    options: Mapping[str, Any] = Factory(dict)
    client: Mapping[str, Any] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if "api_key" in self.client:
            raise InvalidInput("the API key is not sent to workers: set NP6_API_KEY where they run, and here")
        for name in ("contacts", "executor", "folder", "kind"):
            if name in self.options:
                raise InvalidInput(f"options of an ExportSpec must not hold {name!r}, which export() sets itself")


def export(client: Client, ids: ContactIterable, spec: ExportSpec) -> Any:
    """Export the events of contacts by the workers of a ``distributed.Client``; returns the `ExportReport`.

    With an asynchronous client it returns an awaitable of that. Run again after whatever ended it, it resumes: see
    `Export`, and `Export.run` for what is raised; besides these, `WorkersLost`. `ids` is any iterable of contacts, of
    which those are read that the workers are about to need. Use `Export` itself for progress, failures one by one, or
    a stop.
    """

    async def run() -> ExportReport:
        async with NP6Client(**spec.client) as np6:
            made = Export(np6, spec.folder, ids, spec.kind, executor=DaskExecutor(client), **spec.options)
            return await made.run()

    returned: Any = client.sync(run)
    return returned


def _is_address(address: object) -> bool:
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
        return (
            parts is not None
            and parts.scheme in ("tcp", "tls")
            and bool(parts.hostname and parts.port)
            and not (parts.username or parts.password or parts.path or parts.query or parts.fragment)
        )
    except ValueError:
        return False
