"""Response bodies that look like the API's: unique ids, ascending timestamps with ties, 550 bytes an event."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

_FIRST: Final = 1_760_000_000_000
_IDENTITY: Final = '{"type":"customer","agency":"DEMO","customer":"028"}'
_LINKS: Final = (
    '{"type":"open","agent":"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X)"}',
    '{"type":"redirection","id":"12","url":"https://www.example.com/spring/offers?utm_source=np6"}',
    '{"type":"unsubscribe","id":"3"}',
)
_BOUNCES: Final = (
    ("soft", "5.4.4", "no mail hosts for domain", "other or undefined status"),
    ("hard", "5.1.1", "550 5.1.1 user unknown", "bad destination mailbox address"),
    ("soft", "4.2.2", "452 4.2.2 mailbox is over its quota", "mailbox full"),
)


class Events:
    """An endless supply of distinct events, the same in every run."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._timestamp = _FIRST

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self._event()

    def _uuid(self) -> str:
        text = f"{self._random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _event(self) -> bytes:
        chance = self._random.random
        if chance() > 0.05:  # otherwise a tie with the previous event
            self._timestamp += 1 + int(chance() * 60_000)
        contact = f"{int(chance() * 36**5):08X}"
        kind = chance()
        if kind < 0.2:
            verdict, code, diagnostic, subject = _BOUNCES[int(chance() * 3)]
            name = "bounce"
            receiver = f'{{"type":"id","value":"{contact}"}}'
            more = (
                f',"bounce":{{"status":{{"type":"sync","code":{{"enhanced":"{code}"}},"diagnostic":"{diagnostic}",'
                f'"mta":""}},"analysis":{{"verdict":"{verdict}","subject":{{"type":"{subject}"}}}}}}'
            )
        else:
            receiver = (
                f'{{"type":"footprint","id":"{contact}","unicity":"{contact.lower()}@example.com",'
                f'"hash":"{self._random.getrandbits(128):032x}"}}'
            )
            name, more = ("activation", "") if kind < 0.6 else ("hit", f',"link":{_LINKS[int(chance() * 3)]}')
        return (
            f'{{"type":"{name}","id":"{self._uuid()}","timestamp":{self._timestamp},"identity":{_IDENTITY},'
            f'"source":{{"type":"email","detail":{{"activation":{{"id":"{int(chance() * 36**4):06X}",'
            f'"kind":"message","receiver":{receiver},"stamp":{{"time":{self._timestamp - int(chance() * 10_000)},'
            f'"id":"{self._uuid()}","thread":"{self._uuid()}"}},"recipient":"{contact.lower()}@example.com"}}{more}'
            "}}}"
        ).encode()


def answer(events: int, seed: int) -> bytes:
    """A JSON array of `events` events."""
    return b"[" + b",".join(event for event, _ in zip(Events(seed), range(events), strict=False)) + b"]"


def answer_of_size(size: int, seed: int) -> bytes:
    """A JSON array of about `size` bytes."""
    parts, total = [], 0
    for event in Events(seed):
        parts.append(event)
        total += len(event) + 1
        if total >= size:
            break
    return b"[" + b",".join(parts) + b"]"
