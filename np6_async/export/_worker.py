"""What a process needs that others give work to: a client like theirs, and a place beside the parts.

The client is kept between two pieces of work, with its connections and with what it knows of the rate limit and of the
server, and closed when none comes.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from stat import S_ISFIFO
from typing import Any, Final, TypeVar

from attrs import Factory, define

from .._client import ClientSettings, NP6Client, runtime_of, settings_of
from .._errors import ConfigError, InvalidInput
from .._http.rate_limiter import AccountLimit
from ._executor import Job
from ._location import storage_of
from ._part import HeldFile, Part
from ._storage import Storage

T = TypeVar("T")

_IDLE: Final = 30.0  # seconds
_STOP_SECONDS: Final = 4.0  # that contacts in flight have to end; the command waits for twice as long
_lock = threading.Lock()
_open: dict[bytes, _Open] = {}


def account_of(client: NP6Client, salt: bytes) -> str:
    """A word for the API key and the server of a client, which tells nothing of the key."""
    return runtime_of(client).transport.account(salt)


def check_client(client: NP6Client) -> None:
    """Raise `InvalidInput` where no client of another process can be what this one is."""
    settings = settings_of(client)
    if runtime_of(client).transport.borrows:
        raise InvalidInput(
            "executor= makes clients in other processes, which cannot have the session of this one; pass an NP6Client "
            "without session="
        )
    if settings.ssl_context is not None:
        raise InvalidInput(
            "executor= makes clients in other processes, which cannot have the ssl_context of this one; let "
            "SSL_CERT_FILE name the certificates of the authority, there as here"
        )
    if settings.rate_limiter is not None and not isinstance(settings.rate_limiter, AccountLimit):
        raise InvalidInput(
            "executor= makes clients in other processes, each of which would have a rate_limiter of its own; share one "
            "with np6_async.integrations.redis.SharedLimit"
        )
    proxy = runtime_of(client).transport.proxy
    if proxy is not None and proxy.source == "proxy" and proxy.has_credentials:
        raise InvalidInput(
            "executor= makes clients in other processes, which are not sent the password of a proxy; set HTTPS_PROXY "
            "there as here, and leave out proxy="
        )
    for name in ("retry", "tz", "rate_limiter"):
        try:
            pickle.dumps(getattr(settings, name))
        except Exception:
            raise InvalidInput(
                f"executor= makes clients in other processes, which cannot have the {name} of this one: it cannot be "
                "pickled"
            ) from None


def work_in_folder(
    where: str,
    settings: ClientSettings,
    salt: bytes,
    account: str,
    work: Callable[[NP6Client, Storage], Coroutine[Any, Any, T]],
) -> T:
    """What `work` returns, with a client of these settings and with the folder that a process has open as `where`.

    Raises `FolderError` where this process does not see the folder, `ConfigError` where it lacks the API key or has
    another one than that of the `account_of` the run, and CancelledError of `concurrent.futures` where the work is
    cancelled.
    """

    async def checked(client: NP6Client) -> T:
        if account_of(client, salt) != account:
            raise ConfigError(
                "a worker has another API key than the process that began the run: give all of them the same "
                "NP6_API_KEY, or NP6_API_KEY_FILE"
            )
        storage = storage_of(where)
        storage.join()
        try:
            return await work(client, storage)
        finally:
            storage.close()

    return with_client(salt, settings, checked)


def hold(storage: Storage, part: Part, held: Callable[[str], str]) -> list[HeldFile]:
    """Complete a part, and keep its files beside the parts under the names that are `held` of theirs."""
    files: list[HeldFile] = []
    sealed = part.seal()
    try:
        while sealed:
            each = sealed[0]
            storage.hold(each.file, held(each.name))
            del sealed[0]
            files.append(HeldFile(each.name, each.contacts, each.rows, each.bytes))
    finally:
        for each in sealed:  # where that failed
            with suppress(OSError):
                each.file.unlink()
    return files


@asynccontextmanager
async def stoppable(job: Job, stop: Callable[[], object]) -> AsyncIterator[asyncio.Timeout]:
    """Listen to the job for as long as this is entered: call `stop` where it says so, on the loop, and 4 seconds later
    cancel what is in here, with a TimeoutError; cancel the task where nobody wants its result."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def soon() -> None:
        stop()
        with suppress(RuntimeError):  # it has ended
            limit.reschedule(loop.time() + _STOP_SECONDS)

    async with asyncio.timeout(None) as limit:
        job.listen(stop=lambda: loop.call_soon_threadsafe(soon), cancel=lambda: loop.call_soon_threadsafe(task.cancel))
        yield limit


def with_client(run: bytes, settings: ClientSettings, work: Callable[[NP6Client], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns, with the client of the `run` that it belongs to, which has these settings.

    Blocks; the coroutine runs in another thread, on the loop of the client. Several threads may call it at once.

    Raises `ConfigError` where there is no API key, and CancelledError of `concurrent.futures` where the work is
    cancelled.
    """
    with _lock:
        opened = _open.get(run)
        if opened is None:
            _check_key_file()
            opened = _open[run] = _Open(settings.make())
            opened.start(lambda: _open.pop(run))
        opened.users += 1
    try:
        return asyncio.run_coroutine_threadsafe(work(opened.client), opened.loop).result()
    finally:
        with _lock:  # of an earlier call, the time may be up
            opened.users -= 1
            opened.loop.call_soon_threadsafe(opened.rest)


def _check_key_file() -> None:
    """Raise `ConfigError` where the process that began has read the API key from a pipe: here that would hang."""
    file = os.environ.get("NP6_API_KEY_FILE")
    if file is None or "NP6_API_KEY" in os.environ:
        return
    try:
        is_pipe = S_ISFIFO(os.stat(file).st_mode)
    except (OSError, ValueError):  # it cannot be read either
        return
    if is_pipe:
        raise ConfigError(
            "the file that NP6_API_KEY_FILE names is a pipe, which one process can read, and workers are others: name "
            "a file with the API key, or set NP6_API_KEY"
        )


@define(eq=False, repr=False)
class _Open:
    """A client in a thread of its own."""

    client: NP6Client
    users: int = 0
    loop: asyncio.AbstractEventLoop = Factory(asyncio.new_event_loop)
    _forget: Callable[[], object] | None = None
    _timer: asyncio.TimerHandle | None = None

    def start(self, forget: Callable[[], object]) -> None:
        self._forget = forget
        threading.Thread(target=self._run, name="np6 client", daemon=True).start()

    def rest(self) -> None:
        """Close the client if nobody uses it for a while."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(_IDLE, self._end)

    def _end(self) -> None:
        with _lock:
            if self.users or self._forget is None:
                return
            self._forget()
        self.loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.client.close())
        finally:
            self.loop.close()
