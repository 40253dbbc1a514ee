"""The throughput scenarios: who fetches how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Final

from .contenders import NAMES
from .processes import Server, Spread, Worker, client_core, interleaved, ratios, server_core
from .raw import raw_answers
from .report import Figure, Section

BY_HAND: Final = "by hand"
SDK: Final = "np6_async"
BATCHES: Final = "np6_async batches"

# Contacts per round: enough for a fifth of a second of the faster contenders, and for all slots to be in use nearly
# all of the time.
_CONTACTS: Final = {"S": 2_000, "M": 600, "L": 20}
_SLOW: Final = {"httpx+pydantic": 0.1, "aiohttp+cattrs": 0.3}


@dataclass
class Bench:
    """What the scenarios share: how long to measure, the server, and a client process for each contender."""

    rounds: int
    quick: bool
    contenders: tuple[str, ...] = NAMES
    _server: Server | None = None
    _workers: dict[str, Worker] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        """The server, on its own processor if possible."""
        if self._server is None:
            self._server = Server(core=server_core())
        return self._server

    def worker(self, name: str) -> Worker:
        """The client process of a contender. They take turns on one processor."""
        if name not in self._workers:
            self._workers[name] = Worker(core=client_core())
        return self._workers[name]

    def fetch(self, name: str, **options: Any) -> dict[str, Any]:
        """One fetch by one contender in its process."""
        return self.worker(name).run("fetch", contender=name, base_url=self.server.url, **options)

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()
        if self._server is not None:
            self._server.close()


def check(bench: Bench) -> None:
    """All contenders must read the same from the same response."""
    for consumer in ("envelope", "everything"):
        digests = {}
        for name in bench.contenders:
            if name != "transport limit":
                # A server for each: it serves its bodies in turn, and each contender must get the first.
                with Server(core=None) as server, Worker(core=None) as worker:
                    result = worker.run("check", contender=name, base_url=server.url, consumer=consumer)
                    digests[name] = (result["digest"], result["events"])
        if len(set(digests.values())) != 1 or {events for _, events in digests.values()} != {100}:
            raise SystemExit(f"the contenders do not read the same ({consumer}): {digests}")


def server(bench: Bench) -> Section:
    """Is the server the bottleneck? A client that only counts bytes sends it requests as fast as it can."""
    section = Section(
        "The server is not the bottleneck",
        "A raw client (32 sockets, no parsing beyond Content-Length) against the same server, and how busy the "
        "server was at concurrency 50 with the fastest contenders.",
        ["what", "answers/s", "server busy"],
    )
    for shape in ("S", "M"):
        began, cpu = time.perf_counter(), bench.server.cpu()
        count = raw_answers(bench.server.port, shape, 1.0 if bench.quick else 2.0)
        seconds = time.perf_counter() - began
        busy = "" if cpu is None else f"{((bench.server.cpu() or 0) - cpu) / seconds:.0%}"
        section.rows.append([f"{shape}, raw client", f"{count / seconds:,.0f}", busy])
        for name in (SDK, "transport limit"):
            cpu = bench.server.cpu()
            contacts = _CONTACTS[shape] * 4
            seconds = bench.fetch(name, shape=shape, contacts=contacts, concurrency=50)["seconds"]
            busy = "" if cpu is None else f"{((bench.server.cpu() or 0) - cpu) / seconds:.0%}"
            section.rows.append([f"{shape}, {name}", f"{contacts / seconds:,.0f}", busy])
    return section


Cell = tuple[str, int, str, bool]  # shape, concurrency, consumer, garbage collector on


def _cells(bench: Bench) -> list[Cell]:
    main = [("S", 50), ("M", 50), ("L", 10)]
    cells = [(shape, many, consumer, True) for consumer in ("envelope", "everything") for shape, many in main]
    cells += [("M", 50, "envelope", False), ("L", 10, "envelope", False)]
    if not bench.quick:
        others = [(shape, many) for shape in "SML" for many in (1, 10, 50) if (shape, many) not in main]
        cells += [(shape, many, "envelope", True) for shape, many in others]
        cells += [(shape, many, "everything", True) for shape, many in others if shape != "L"]
    return cells


def throughput(bench: Bench, cells: list[Cell] | None = None) -> Section:
    """Contenders 1 to 5 at all shapes."""
    section = Section(
        "Throughput",
        "S = 5 events a contact, M = 100, L = 10,000 (chunked). *envelope* reads id, timestamp, type and identity "
        "of each event, *everything* the details of its type too. *by hand* is aiohttp + orjson, untyped; "
        "*transport limit* is the same without decoding.",
        ["shape @ concurrency, consumer", "contender", "contacts/s", "us/event", "times by hand"],
    )
    measured: dict[Cell, dict[str, list[float]]] = {}
    for cell in _cells(bench) if cells is None else cells:
        measured[cell] = _measure(bench, cell)
        _add_rows(section, cell, measured[cell])
    _judge(section, measured)
    return section


def _measure(bench: Bench, cell: Cell) -> dict[str, list[float]]:
    """Contacts per second by contender and round."""
    shape, concurrency, consumer, collector = cell
    runs = {}
    for name in bench.contenders:
        if name == "transport limit" and consumer == "everything":
            continue
        if name in _SLOW and not collector:
            continue  # this measures how much of the lead over dicts is due to the collector
        if shape == "L" and concurrency == 50 and name in _SLOW:
            continue  # half a minute a round, and it shows nothing more than concurrency 10
        contacts = int(_CONTACTS[shape] * _SLOW.get(name, 1) * (0.4 if bench.quick and shape != "L" else 1))
        contacts = max(contacts, concurrency) if concurrency > 1 else max(contacts // 2, 1)
        runs[name] = partial(
            bench.fetch,
            name,
            shape=shape,
            contacts=contacts,
            concurrency=concurrency,
            consumer=consumer,
            collector=collector,
        )
    results = interleaved(bench.rounds, runs)
    return {name: [each["contacts"] / each["seconds"] for each in rounds] for name, rounds in results.items()}


def _add_rows(section: Section, cell: Cell, rates: dict[str, list[float]]) -> None:
    shape, concurrency, consumer, collector = cell
    label = f"{shape} @ {concurrency}, {consumer}{'' if collector else ', gc off'}"
    events = {"S": 5, "M": 100, "L": 10_000}[shape]
    for name, rounds in rates.items():
        ratio = ratios(rounds, rates[BY_HAND]) if BY_HAND in rates else None
        section.rows.append(
            [
                label,
                name,
                f"{median(rounds):,.{0 if median(rounds) > 100 else 1}f}",
                f"{1e6 / median(rounds) / events:.2f}",
                ratio.show() if ratio else "",
            ]
        )
        if ratio and consumer == "envelope" and collector and concurrency == {"S": 50, "M": 50, "L": 10}[shape]:
            section.ratios.setdefault(label.removesuffix(", envelope"), {})[name] = ratio.median


# shape, concurrency, consumer, against, at least
_TARGETS: Final = (
    ("S", 50, "envelope", BY_HAND, 1.2),
    ("M", 50, "envelope", BY_HAND, 1.3),
    ("L", 10, "envelope", BY_HAND, 2.5),
    ("M", 50, "everything", BY_HAND, 0.8),
    ("L", 10, "everything", BY_HAND, 1.0),
    ("M", 50, "everything", "aiohttp+cattrs", 4.0),
    ("L", 10, "everything", "aiohttp+cattrs", 4.0),
    ("M", 50, "everything", "httpx+pydantic", 4.0),
    ("L", 10, "everything", "httpx+pydantic", 4.0),
    ("S", 50, "envelope", "httpx+pydantic", 15.0),
    ("S", 50, "envelope", "transport limit", 0.95),
    ("M", 50, "envelope", "transport limit", 0.7),
)


def _judge(section: Section, measured: dict[Cell, dict[str, list[float]]]) -> None:
    for shape, concurrency, consumer, against, target in _TARGETS:
        rates = measured.get((shape, concurrency, consumer, True), {})
        if against not in rates:
            continue
        for name in (SDK, BATCHES):
            if name in rates:
                ratio = ratios(rates[name], rates[against])
                section.figures.append(
                    Figure(
                        f"{shape} @ {concurrency}, {consumer}: {name} against {against}",
                        f">= {target:g} x",
                        ratio.show(unit=" x"),
                        ratio.median >= target,
                    )
                )


def decode(bench: Bench) -> Section:
    """From bytes in memory to events, without a network."""
    section = Section(
        "Decoding alone",
        "Microseconds per event, np6_async's decoder to typed events against orjson.loads to dicts.",
        ["events in the body", "np6_async us", "orjson us", "times orjson", "times orjson, gc off"],
    )
    for events, target in ((5, 1.0), (100, 1.5), (5_000, 3.0)):
        by_collector = {}
        for collector in (True, False):
            runs = {
                how: partial(
                    bench.worker(how).run,
                    "decode",
                    how=how,
                    events=events,
                    seconds=0.1 if bench.quick else 0.25,
                    collector=collector,
                )
                for how in (SDK, BY_HAND)
            }
            by_collector[collector] = interleaved(bench.rounds, runs)
        us = {name: [each["us"] for each in rounds] for name, rounds in by_collector[True].items()}
        ratio = ratios(us[BY_HAND], us[SDK])
        off = {name: [each["us"] for each in rounds] for name, rounds in by_collector[False].items()}
        section.rows.append(
            [
                f"{events:,}",
                Spread.of(us[SDK]).show(),
                Spread.of(us[BY_HAND]).show(),
                ratio.show(),
                ratios(off[BY_HAND], off[SDK]).show(),
            ]
        )
        what = f"decode only, {events:,} events: np6_async against orjson.loads"
        section.figures.append(Figure(what, f">= {target:g} x", ratio.show(unit=" x"), ratio.median >= target))
    return section
