"""The requests that a fake server received, and their comparison with those that a test expects."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

import attrs

_EXPECTED: Final = re.compile(
    r"(?:(?P<method>[A-Z]+) )?(?P<path>/[^?\s]*)(?:\?(?P<query>\S*))?(?: -> (?P<status>\d+))?"
)


class RequestSeen(NamedTuple):
    """One request as it arrived. The API key is not kept."""

    method: str
    target: str
    """The path and query as they were on the wire."""
    contact: str | None
    """The id of the contact; the text that was sent if there is no such contact, None for a path without one."""
    status: int
    """The status of the response, 0 if the connection ended without one."""
    at: float
    """When it arrived, by the server's clock, in epoch seconds."""
    fault: str | None
    """The name of the fault that it met."""
    request_id: str
    """The `x-request-id` of the response."""
    headers: Mapping[str, str]
    """The headers of the request, with names in lower case."""

    @property
    def path(self) -> str:
        """The path as it was on the wire, percent-encoding included."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The parameters, decoded."""
        return dict(parse(self.target.partition("?")[2]))

    def __str__(self) -> str:
        """In the notation of `FakeNP6.assert_requests`, with the name of the fault."""
        return f"{self.method} {self.target} -> {self.status}{f' ({self.fault})' if self.fault else ''}"


def parse(query: str) -> list[tuple[str, str]]:
    """The parameters of a query, decoded."""
    return parse_qsl(query, keep_blank_values=True)


@attrs.frozen
class Expected:
    """One expected request; `text` is what the test wrote."""

    text: str
    method: str
    path: re.Pattern[str]
    query: tuple[tuple[str, re.Pattern[str]], ...]
    status: int | None

    @classmethod
    def read(cls, text: str) -> Expected:
        """Read ``GET /path?name=value -> 200``, where only the path is needed; ValueError for anything else."""
        match = _EXPECTED.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a request: write it like 'GET /targets/A/events?sort=asc -> 200'")
        return cls(
            text,
            match["method"] or "GET",
            _pattern(unquote(match["path"])),
            tuple((name, _pattern(value)) for name, value in parse(match["query"] or "")),
            int(match["status"]) if match["status"] else None,
        )

    def fits(self, seen: RequestSeen) -> bool:
        """Whether `seen` is such a request; other parameters do not matter."""
        query = seen.query
        return (
            seen.method == self.method
            and self.path.fullmatch(unquote(seen.path)) is not None
            and all(name in query and value.fullmatch(query[name]) for name, value in self.query)
            and self.status in (None, seen.status)
        )


def difference(expected: Sequence[str], seen: Sequence[RequestSeen], *, any_order: bool) -> str | None:
    """How the requests that were seen differ from the expected ones, as lines of a diff; None if they do not."""
    wanted = [Expected.read(text) for text in expected]
    pairs = _pairs(wanted, seen) if any_order else {n: n for n in range(min(len(wanted), len(seen)))}
    if len(pairs) == len(wanted) == len(seen) and all(wanted[w].fits(seen[s]) for s, w in pairs.items()):
        return None
    counts = f"{len(wanted)} request{'s' * (len(wanted) != 1)} expected, {len(seen)} seen"
    lines = _unpaired(wanted, seen, pairs) if any_order else _in_order(wanted, seen)
    return "\n".join([f"{counts} (- expected but not seen, + seen but not expected):", *lines])


def _in_order(wanted: Sequence[Expected], seen: Sequence[RequestSeen]) -> Iterator[str]:
    # An expected request is compared in the words of the test, so that the diff matches it.
    names = [next((each.text for each in wanted if each.fits(request)), str(request)) for request in seen]
    texts = [each.text for each in wanted]
    for kind, w0, w1, s0, s1 in difflib.SequenceMatcher(None, texts, names, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from (f"    {request}" for request in seen[s0:s1])
        else:
            yield from (f"  - {text}" for text in texts[w0:w1])
            yield from (f"  + {request}" for request in seen[s0:s1])


def _unpaired(wanted: Sequence[Expected], seen: Sequence[RequestSeen], pairs: dict[int, int]) -> Iterator[str]:
    yield from (f"  - {each.text}" for number, each in enumerate(wanted) if number not in pairs.values())
    yield from (f"  {' ' if number in pairs else '+'} {request}" for number, request in enumerate(seen))


def _pairs(wanted: Sequence[Expected], seen: Sequence[RequestSeen]) -> dict[int, int]:
    """The largest possible matching of seen requests with expected ones that they fit, by number."""
    pairs: dict[int, int] = {}

    def pair(number: int, tried: set[int]) -> bool:
        for candidate, request in enumerate(seen):
            if candidate in tried or not wanted[number].fits(request):
                continue
            tried.add(candidate)
            if candidate not in pairs or pair(pairs[candidate], tried):
                pairs[candidate] = number
                return True
        return False

    for number in range(len(wanted)):
        pair(number, set())
    return pairs


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)
