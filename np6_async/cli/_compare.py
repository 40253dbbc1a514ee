"""`np6 compare`: which events the response for all contacts lacks, found out with a sample of contacts."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
from attrs import Factory, define

from .. import Event, EventKind, Failure, NP6Client, unstructure
from .._columns.recipients import recipient_ids
from .._models.time_bounds import isoformat, to_millis
from .._protocol.resume import fingerprint_of
from ..export import NoContacts
from ._command import Command
from ._contact_input import ContactInput
from ._exit import DONE, SOME_FAILED, USAGE
from ._figures import Progress
from ._messages import count, printable
from ._progress import for_files
from ._time_options import read_span

_SAFETY: Final = timedelta(minutes=2)
_UNTYPED: Final = "(no type)"
_PLURALS: Final = {"optout": "opt-outs", "reply": "replies"}


@define
class Difference:
    """How many events of a type are in both, and in one alone."""

    both: int = 0
    by_contact: int = 0
    account_wide: int = 0


@define(eq=False, repr=False)
class Comparison:
    """The events of a sample of contacts, fetched by contact, and then looked for in the response for all contacts.

    What comes account-wide only may have been published meanwhile, so it is looked for by contact once more.
    """

    unnamed: int = 0  # account-wide events that were not looked for, and do not name their contact by its id
    _by_contact: dict[str, list[tuple[bytes, str]]] = Factory(dict)
    _missing: dict[bytes, list[str]] = Factory(dict)  # the types of those that were not found yet
    _both: Counter[str] = Factory(Counter)
    _alike: Counter[bytes] = Factory(Counter)  # of events without an id: how many equal ones are in both
    _account_wide: dict[str, dict[bytes, list[str]]] = Factory(dict)  # by contact: the types of those not found yet

    @property
    def contacts(self) -> Collection[str]:
        """The sample, without those that failed."""
        return self._by_contact.keys()

    def begin(self, contact: str) -> None:
        """A contact of the sample."""
        self._by_contact.setdefault(contact, [])

    def add(self, contact: str, events: list[Event]) -> None:
        """Events of a contact, fetched by contact."""
        self._by_contact[contact] += [(_key(event), event.type or _UNTYPED) for event in events]

    def drop(self, contact: str) -> None:
        """The contact failed, and leaves the sample or, the second time, what is account-wide only."""
        del self._by_contact[contact]
        self._account_wide.pop(contact, None)

    def look_for_all(self) -> None:
        """Every contact is done or failed; what follows is account-wide."""
        for events in self._by_contact.values():
            for key, type_ in events:
                self._missing.setdefault(key, []).append(type_)
            events.clear()

    def found(self, events: list[Event]) -> None:
        """Events of any contact, fetched account-wide."""
        for event, name in zip(events, recipient_ids(events), strict=True):
            key = _key(event)
            if types := self._missing.get(key):
                self._both[types.pop()] += 1
                if not event.id:
                    self._alike[key] += 1
            elif name is None:
                self.unnamed += 1
            elif name in self._by_contact:
                self._account_wide.setdefault(name, {}).setdefault(key, []).append(event.type or _UNTYPED)

    @property
    def doubtful(self) -> list[str]:
        """The contacts with events that came account-wide only."""
        return list(self._account_wide)

    def found_again(self, contact: str, events: list[Event]) -> None:
        """Events of a doubtful contact, fetched by contact once more."""
        doubtful = self._account_wide[contact]
        for event in events:
            key = _key(event)
            if self._alike[key]:
                self._alike[key] -= 1
            elif types := doubtful.get(key):
                self._both[types.pop()] += 1

    def differences(self) -> dict[str, Difference]:
        """The result, by type, in alphabetical order."""
        missing = Counter(type_ for types in self._missing.values() for type_ in types)
        further = Counter(
            type_ for events in self._account_wide.values() for types in events.values() for type_ in types
        )
        types = sorted({*self._both, *missing, *further})
        return {each: Difference(self._both[each], missing[each], further[each]) for each in types}


def _key(event: Event) -> bytes:
    """What the event is the same by in both responses: its id or, without one, its JSON in whatever order."""
    if event.id:
        return fingerprint_of(event.id)
    return blake2b(msgspec.json.encode(unstructure(event), order="deterministic"), digest_size=16).digest()


class CompareCommand(Command):
    """One run of `np6 compare`."""

    def prepare(self, stack: ExitStack) -> None:
        options = self.options
        if options.kind == EventKind.CANCELLATIONS:
            self.refuse("--kind cancellations cannot be compared: NP6 has none by contact")
        now = datetime.now(UTC)
        span = read_span(options.start, options.end, options.tz)
        if span.start is None:
            self.refuse("give a --start: from then on, the events of all contacts are read")
        # Fixed here, so that both ways are asked for the same.
        start, end, latest = (
            to_millis(_SAFETY if bound is None else bound, name="", now=now, tz=None)
            for bound in (span.start, span.end, _SAFETY)
        )
        end = min(end, latest)
        if start >= end:
            self.refuse(
                f"--start {options.start} is not before --end and 2 minutes ago, so that nothing can be compared"
            )
        self._window: Any = {"start": isoformat(start), "end": isoformat(end)}
        self._input = ContactInput.of_ids(self, stack)
        self._found = Comparison()
        self._read = 0  # events, both ways

    async def fetch(self, np6: NP6Client) -> int:
        self._input.client = np6
        for step in (self._fetch_contacts, self._fetch_account, self._fetch_doubtful, self._print):
            self.progress = Progress() if step == self._print else for_files(self.options, None, self.say)
            code, stopped = await self.ended(step(np6))
            if code == USAGE and stopped is None:  # it was said
                return code
            if code != DONE:
                break
        else:
            differences = self._found.differences().values()
            same = bool(differences) and not any(each.by_contact or each.account_wide for each in differences)
            code = DONE if same and not self.failures.count else SOME_FAILED
        if stopped is not None:
            self.say(stopped)
        self._summarise()
        return code

    async def _fetch_contacts(self, np6: NP6Client) -> None:
        found = self._found
        async with aclosing(aiter(self._input)) as contacts:
            async for contact in contacts:
                found.begin(contact.value)
                if len(found.contacts) >= self.options.sample:
                    break
        if not found.contacts and not self.failures.refused:
            raise NoContacts
        await self._fetch_by_contact(np6, list(found.contacts), found.add)

    async def _fetch_doubtful(self, np6: NP6Client) -> None:
        if contacts := self._found.doubtful:
            await self._fetch_by_contact(np6, contacts, self._found.found_again)

    async def _fetch_by_contact(
        self, np6: NP6Client, contacts: list[str], take: Callable[[str, list[Event]], None]
    ) -> None:
        async with np6.events.stream_many(
            contacts, self.options.kind, **self._window, missing="empty", on_error=self._failed
        ) as stream:
            async for given, item in stream.outcomes():
                if isinstance(item, list):
                    take(str(given), item)
                    self._read += len(item)
                elif isinstance(item, Failure):
                    self._found.drop(str(given))
                self.progress.update(self.watch.contacts, self._read, self.watch.retries, self.failures.count)

    async def _fetch_account(self, np6: NP6Client) -> None:
        if not self._found.contacts:
            return
        self._found.look_for_all()
        async with np6.actions.stream(self.options.kind, **self._window) as stream:
            async for events in stream.batches():
                self._found.found(events)
                self._read += len(events)
                self.progress.update(None, self._read, self.watch.retries, reached=events[-1].timestamp)

    async def _print(self, _: NP6Client) -> None:
        differences = self._found.differences()
        if differences:
            for line in _table(differences):
                print(line)
            print()
        for line in _conclusions(differences, len(self._found.contacts)):
            print(line)
        sys.stdout.flush()

    def _failed(self, failure: Failure) -> Literal["raise", "skip"]:
        return self.failures.add(failure)

    def _summarise(self) -> None:
        parts = [f"{count(len(self._found.contacts), 'contact')} from {self._window['start']} to {self._window['end']}"]
        if self.failures.count:
            parts.append(f"{self.failures.count:,} failed")
        parts += [f"{count(self._read, 'event')} read in {time.monotonic() - self.began:.1f} s", *self.watch.summary()]
        self.say(", ".join(parts))
        for line in self.failures.report():
            self.say(f"  {line}")
        if unnamed := self._found.unnamed:
            self.say(
                f"{count(unnamed, 'account-wide event')} without the id of a contact: whether they belong to the "
                "sample is not known"
            )


def _table(differences: dict[str, Difference]) -> Iterator[str]:
    rows = [("type", "in both", "only by contact", "only account-wide")]
    for type_, each in differences.items():
        rows.append((_name(type_), f"{each.both:,}", f"{each.by_contact:,}", f"{each.account_wide:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for first, *numbers in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells])


def _conclusions(differences: dict[str, Difference], contacts: int) -> Iterator[str]:
    """What follows for which call to use."""
    lacking = {type_: (each.by_contact, each.both) for type_, each in differences.items() if each.by_contact}
    further = {type_: (each.account_wide, each.both) for type_, each in differences.items() if each.account_wide}
    if further:
        yield (
            f"NP6's responses by contact lack {_listed(further)}: use the account-wide calls (--account, np6.actions) "
            "for them."
        )
    if lacking:
        rest = "; for the other types, the account-wide calls (--account, np6.actions) do, with far fewer requests"
        some = any(each.both and not each.by_contact for each in differences.values())
        yield (
            f"NP6's account-wide response lacks {_listed(lacking)}: if you need them, fetch by contact"
            f"{rest if some else ''}."
        )
    if not differences:
        yield (
            f"Nothing was compared: {count(contacts, 'contact')} without an event in this time. Take more time, or "
            "other contacts."
        )
    elif not lacking and not further:
        events = sum(each.both for each in differences.values())
        yield (
            f"NP6's account-wide response has the same {count(events, 'event')} of {count(contacts, 'contact')}: for "
            "these types, use the account-wide calls (--account, np6.actions), with far fewer requests."
        )


def _listed(numbers: dict[str, tuple[int, int]]) -> str:
    """Such as `creations (12), replies (1) and some hits (3 of 120)`."""
    words = []
    for type_, (number, both) in numbers.items():
        name = _name(type_)
        plural = _PLURALS.get(name, f"{name}s")
        words.append(f"some {plural} ({number:,} of {number + both:,})" if both else f"{plural} ({number:,})")
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _name(type_: str) -> str:
    return printable(type_)[:40]
