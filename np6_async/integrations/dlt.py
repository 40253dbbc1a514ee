"""Events for dlt, which loads them into warehouses, databases and lakes; needs the extra ``dlt``.

::

    import dlt

    from np6_async.integrations.dlt import account_events

    pipeline = dlt.pipeline("np6", destination="duckdb", dataset_name="marketing")
    pipeline.run(account_events(start="2026-01-01"))

Each run loads what no run before has loaded: `np6_async.sync` finds it, late events included. Its progress is in the
state of dlt's resource, which dlt keeps only together with the rows: after a run that failed or was killed, the next
one loads whatever is missing.

The columns are those of an export, and before them ``event_key``, by which rows are merged: the id of the event or,
where it has none, ``raw:`` and a digest of its contact and its JSON. Rows that are alike in all of it become one.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

try:
    import dlt
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "np6_async.integrations.dlt needs dlt: pip install 'np6_async[dlt]'", name="dlt"
    ) from None

from dlt.common.configuration import configspec
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.typing import TSecretStrValue
from dlt.extract import DltResource

from .._api.event_requests import Missing
from .._client import NP6Client
from .._columns.personal import Mask, Personal, PersonalKey, make_mask
from .._models.contacts import Contact
from .._models.events import EventKind
from .._models.time_bounds import Bound
from .._streams.contact_queue import ContactIterable, given, reusable
from .._streams.failures import ErrorPolicy
from ..sync import Store, Sync
from ._extraction import Extraction, ResourceState

__all__ = ["account_events", "contact_events"]

Contacts: TypeAlias = ContactIterable | Callable[[NP6Client], ContactIterable]


@configspec
class _Secrets(BaseConfiguration):
    """What the sources take from dlt's configuration, in the section ``sources.np6``.

    Not more: dlt would also take it from a variable such as START or BASE_URL that is there for something else.
    """

    api_key: TSecretStrValue | None = None


@dlt.source(section="np6", spec=_Secrets)
def account_events(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    start: Bound | None = None,
    classification: str | Iterable[str] | None = None,
    overlap: timedelta = timedelta(minutes=5),
    safety: timedelta = timedelta(minutes=2),
    personal: Personal = "keep",
    personal_key: PersonalKey = None,
    client: Callable[[], NP6Client] | None = None,
) -> Iterator[DltResource]:
    """The events of all contacts of the account, in one request a run, with one watermark as the state.

    A resource ``events`` for all kinds, and one for each kind: ``activations``, ``cancellations``, ``bounces``,
    ``stops``, ``hits``, ``hits_open`` and so on. Only ``events`` is selected: choose others with
    ``with_resources("bounces", "hits_open")``. `NP6Client.actions` says which types of events the account's are.

    - `api_key`: also from dlt's configuration, ``sources.np6.api_key`` in ``secrets.toml`` or the environment variable
      ``SOURCES__NP6__API_KEY``; last from ``NP6_API_KEY``, or the file that ``NP6_API_KEY_FILE`` names.
    - `base_url`: that of `NP6Client`.
    - `start`, `overlap`, `safety`: those of `np6_async.sync.Sync`. `start` matters in the first run only.
    - `classification`: for the resources of hits.
    - `personal`, `personal_key`: those of `np6_async.export.make_writer`.
    - `client`: makes the client of each run, in place of `api_key` and `base_url`; for other timeouts and retries.

    Raises `InvalidInput` and `ConfigError` before any I/O.
    """
    make_client = partial(NP6Client, api_key, base_url=base_url) if client is None else client

    def make_sync(np6: NP6Client, store: Store, kind: EventKind) -> Sync[Any]:
        return Sync(
            np6,
            store,
            kind=kind,
            account=True,
            start=start,
            classification=classification if kind.is_hits else None,
            overlap=overlap,
            safety=safety,
            on_error="raise",
        )

    yield from _resources(EventKind, make_client, make_sync, make_mask(personal, personal_key))


@dlt.source(section="np6", spec=_Secrets)
def contact_events(
    contacts: Contacts,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    start: Bound | None = None,
    concurrency: int | None = None,
    classification: str | Iterable[str] | None = None,
    overlap: timedelta = timedelta(minutes=5),
    safety: timedelta = timedelta(minutes=2),
    missing: Missing = "error",
    on_error: ErrorPolicy = "collect",
    personal: Personal = "keep",
    personal_key: PersonalKey = None,
    client: Callable[[], NP6Client] | None = None,
) -> Iterator[DltResource]:
    """The events of some contacts, with progress for each of them as the state.

    The resources, and the arguments that are not named here, are those of `account_events`; there is none for
    cancellations, which NP6 does not have by contact.

    - `contacts`: anything that can be iterated over again and again, or a function that gets the client and returns
      contacts, such as ``lambda np6: np6.segments.contacts(41)``. Each resource and each run reads them anew. A contact
      that comes later gets its whole history, from `start` on.
    - `concurrency`, `missing`: those of `Sync`.
    - `on_error`: with ``"collect"``, contacts that fail are counted in a warning and in dlt's metrics, and the next run
      resumes them; with ``"raise"`` the run ends, and nothing of it is loaded.

    The state has a few dozen bytes of each contact, and dlt writes all of it in each run: for more than 100,000
    contacts, use `account_events`. Contacts that are not named by id are in the state as digests.
    """
    found = contacts if callable(contacts) else reusable(contacts)
    make_client = partial(NP6Client, api_key, base_url=base_url) if client is None else client

    def make_sync(np6: NP6Client, store: Store, kind: EventKind) -> Sync[Any]:
        return Sync(
            np6,
            store,
            _Lazy(found, np6) if callable(found) else found,
            kind,
            start=start,
            concurrency=concurrency,
            classification=classification if kind.is_hits else None,
            overlap=overlap,
            safety=safety,
            missing=missing,
            on_error=on_error,
        )

    kinds = (kind for kind in EventKind if kind is not EventKind.CANCELLATIONS)
    yield from _resources(kinds, make_client, make_sync, make_mask(personal, personal_key))


class _Lazy:
    """The contacts that a function returns, which is called when they are read."""

    def __init__(self, make: Callable[[NP6Client], ContactIterable], np6: NP6Client) -> None:
        self._make = make
        self._np6 = np6

    async def __aiter__(self) -> AsyncIterator[str | Contact]:
        contacts = given(self._make(self._np6))
        if isinstance(contacts, AsyncIterable):
            async for contact in contacts:
                yield contact
        else:
            for contact in contacts:
                yield contact


def _resources(
    kinds: Iterable[EventKind],
    make_client: Callable[[], NP6Client],
    make_sync: Callable[[NP6Client, Store, EventKind], Sync[Any]],
    mask: Mask | None,
) -> Iterator[DltResource]:
    np6 = make_client()  # which is never opened, as the sync below is never run: they refuse what cannot work
    for kind in kinds:
        make_sync(np6, ResourceState({}), kind)
        yield Extraction(kind, make_client, make_sync, mask).resource()
