"""Requests as a test expects them, compared with those that were seen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import attrs

from ._routes import parse

if TYPE_CHECKING:
    from ._app import RequestSeen

_EXPECTED: Final = re.compile(
    r"(?:(?P<method>[A-Z]+) )?(?P<path>/[^?\s]*)(?:\?(?P<query>\S*))?(?: -> (?P<status>\d+))?"
)


@attrs.frozen
class Expected:
    """One expected request; `text` is as the test wrote it."""

    text: str
    method: str
    path: re.Pattern[str]
    query: tuple[tuple[str, re.Pattern[str]], ...]
    status: int | None

    @classmethod
    def read(cls, text: str) -> Expected:
        """From ``GET /path?name=value -> 200``, all but the path being optional; ValueError for anything else."""
        match = _EXPECTED.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no request: it is written like 'GET /targets/A/events?sort=asc -> 200'")
        return cls(
            text,
            match["method"] or "GET",
            _pattern(unquote(match["path"])),
            tuple((name, _pattern(value)) for name, value in parse(match["query"] or "")),
            int(match["status"]) if match["status"] else None,
        )

    def fits(self, seen: RequestSeen) -> bool:
        """Whether `seen` is such a request; parameters that are not named do not matter."""
        query = seen.query
        return (
            seen.method == self.method
            and self.path.fullmatch(unquote(seen.path)) is not None
            and all(name in query and value.fullmatch(query[name]) for name, value in self.query)
            and self.status in (None, seen.status)
        )


def difference(expected: Sequence[str], seen: Sequence[RequestSeen], *, any_order: bool) -> str | None:
    """What is wrong with the requests that were seen, in lines to show; None where nothing is."""
    wanted = [Expected.read(text) for text in expected]
    pairs = _pairs(wanted, seen) if any_order else {n: n for n in range(min(len(wanted), len(seen)))}
    if len(pairs) == len(wanted) == len(seen) and all(wanted[w].fits(seen[s]) for s, w in pairs.items()):
        return None
    told = f"{len(wanted)} request{'s' * (len(wanted) != 1)} expected, {len(seen)} seen"
    lines = _unpaired(wanted, seen, pairs) if any_order else _in_order(wanted, seen)
    return "\n".join([f"{told} (- expected and not seen, + seen and not expected):", *lines])


def _in_order(wanted: Sequence[Expected], seen: Sequence[RequestSeen]) -> Iterator[str]:
    # Those that were expected get the words of the test, so that the diff finds them.
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
    """As many pairs of a seen and an expected request that fit as there can be, by number."""
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
