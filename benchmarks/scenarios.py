"""The throughput scenarios: who fetches how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias

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
    """What the scenarios share: how long to measure, the servers, and a client process for each contender."""

    rounds: int
    quick: bool
    contenders: tuple[str, ...] = NAMES
    _servers: dict[bool, Server] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        """The server, on its own processor if possible."""
        return self.server_over(tls=False)

    def server_over(self, *, tls: bool) -> Server:
        """The server, or the one that speaks TLS. Whichever is not asked does nothing."""
        if tls not in self._servers:
            self._servers[tls] = Server(core=server_core(), tls=tls)
        return self._servers[tls]

    def worker(self, name: str) -> Worker:
        """The client process of a contender. They take turns on one processor."""
        if name not in self._workers:
            self._workers[name] = Worker(core=client_core())
        return self._workers[name]

    def fetch(self, name: str, *, tls: bool = False, **options: Any) -> dict[str, Any]:
        """One fetch by one contender in its process."""
        server = self.server_over(tls=tls)
        where = {"base_url": server.url, "authority": server.authority}
        return self.worker(name).run("fetch", contender=name, **where, **options)

    def close(self) -> None:
        """End all processes."""
        for process in (*self._workers.values(), *self._servers.values()):
            process.close()


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
    contacts = {shape: many * 4 for shape, many in _CONTACTS.items()}
    for shape, tls in (("S", False), ("M", False), ("S", True)):
        for name in (SDK, "transport limit"):
            serving = bench.server_over(tls=tls)
            cpu = serving.cpu()
            seconds = bench.fetch(name, tls=tls, shape=shape, contacts=contacts[shape], concurrency=50)["seconds"]
            busy = "" if cpu is None else f"{((serving.cpu() or 0) - cpu) / seconds:.0%}"
            label = f"{shape}{' over TLS' * tls}, {name}"
            section.rows.append([label, f"{contacts[shape] / seconds:,.0f}", busy])
    return section


class Cell(NamedTuple):
    """One comparison of throughput. `way` is how responses come: "plain", "chunked", "gzip" or "tls"."""

    shape: str
    concurrency: int
    consumer: str = "envelope"
    way: str = "plain"
    collector: bool = True

    @property
    def label(self) -> str:
        """For tables."""
        way = "" if self.way == "plain" else f" {_WAYS[self.way]}"
        return f"{self.shape} @ {self.concurrency}{way}, {self.consumer}{'' if self.collector else ', gc off'}"

    @property
    def letter(self) -> str:
        """What the server sends: see `benchmarks.server`."""
        return _LETTERS.get((self.shape, self.way), self.shape)


_EVENTS: Final = {"S": 5, "M": 100, "L": 10_000}
_WAYS: Final = {"chunked": "chunked, rate headers", "gzip": "gzip, chunked", "tls": "over TLS"}
_LETTERS: Final = {("S", "chunked"): "C", ("S", "gzip"): "G"}
_S: Final = Cell("S", 50)
_M: Final = Cell("M", 50)
_L: Final = Cell("L", 10)
_CHART: Final = {
    _S: "5 events a contact, concurrency 50",
    _S._replace(way="tls"): "5 events a contact over TLS, concurrency 50",
    _M: "100 events a contact, concurrency 50",
    _L: "10,000 events a contact, concurrency 10",
}


def cell(text: str) -> Cell:
    """A cell from text such as ``S@50:tls:everything``; ``off`` is without the garbage collector."""
    size, *options = text.split(":")
    shape, _, many = size.partition("@")
    parsed = Cell(shape, int(many))
    for option in options:
        if option == "off":
            parsed = parsed._replace(collector=False)
        elif option in ("envelope", "everything"):
            parsed = parsed._replace(consumer=option)
        elif option == "tls" or (shape, option) in _LETTERS:
            parsed = parsed._replace(way=option)
        else:
            raise ValueError(option)
    if shape not in _EVENTS or parsed.concurrency < 1:
        raise ValueError(text)
    return parsed


def _cells(bench: Bench) -> list[Cell]:
    main = [_S, _M, _L]
    cells = [*main, *(_S._replace(way=way) for way in _WAYS), Cell("S", 1)]
    cells += [cell._replace(consumer="everything") for cell in main]
    cells += [cell._replace(collector=False) for cell in (_M, _L)]
    if not bench.quick:
        others = [Cell(shape, many) for shape in _EVENTS for many in (1, 10, 50)]
        cells += [cell for cell in others if cell not in cells]
        everything = [cell._replace(consumer="everything") for cell in others if cell.shape != "L"]
        cells += [cell for cell in everything if cell not in cells]
    return cells


def throughput(bench: Bench, cells: list[Cell] | None = None) -> Section:
    """Contenders 1 to 5 at all shapes."""
    section = Section(
        "Throughput",
        "S = 5 events a contact, M = 100, L = 10,000 (chunked). *envelope* reads id, timestamp, type and identity "
        "of each event, *everything* the details of its type too. *by hand* is aiohttp + orjson, untyped; "
        "*transport limit* is the same without decoding. *CPU* is the processor time of the client's process, which "
        "other processes add little to.",
        ["shape @ concurrency, consumer", "contender", "contacts/s", "us/contact", "CPU us", "times by hand", "by CPU"],
    )
    measured: dict[Cell, _Costs] = {}
    for cell in _cells(bench) if cells is None else cells:
        measured[cell] = _measure(bench, cell)
        _add_rows(section, cell, measured[cell])
    _judge(section, measured)
    return section


# Microseconds per contact in each round: by contender, and by "seconds" or "cpu".
_Costs: TypeAlias = dict[str, dict[str, list[float]]]


def _measure(bench: Bench, cell: Cell) -> _Costs:
    runs = {}
    for name in bench.contenders:
        if name == "transport limit" and cell.consumer == "everything":
            continue
        if name in _SLOW and not cell.collector:
            continue  # this measures how much of the lead over dicts is due to the collector
        if name in _SLOW and cell.shape == "L" and cell.concurrency == 50:
            continue  # half a minute a round, and it shows nothing more than concurrency 10
        few = 0.4 if bench.quick and cell.shape != "L" else 1
        contacts = int(_CONTACTS[cell.shape] * _SLOW.get(name, 1) * few)
        contacts = max(contacts, cell.concurrency) if cell.concurrency > 1 else max(contacts // 2, 1)
        runs[name] = partial(
            bench.fetch,
            name,
            tls=cell.way == "tls",
            shape=cell.letter,
            contacts=contacts,
            concurrency=cell.concurrency,
            consumer=cell.consumer,
            collector=cell.collector,
        )
    costs: _Costs = {}
    for name, rounds in interleaved(bench.rounds, runs).items():
        for each in rounds:
            if each["events"] != each["contacts"] * _EVENTS[cell.shape] * (name != "transport limit"):
                raise SystemExit(f"{cell.label}: {name} read {each['events']} events of {each['contacts']} contacts")
        costs[name] = {by: [each[by] * 1e6 / each["contacts"] for each in rounds] for by in ("seconds", "cpu")}
    return costs


def _add_rows(section: Section, cell: Cell, costs: _Costs) -> None:
    for name, cost in costs.items():
        us, cpu = median(cost["seconds"]), median(cost["cpu"])
        row = [cell.label, name, f"{1e6 / us:,.{0 if us < 10_000 else 1}f}", f"{us:,.0f}", f"{cpu:,.0f}"]
        if BY_HAND in costs:
            wall = ratios(costs[BY_HAND]["seconds"], cost["seconds"])
            row += [wall.show(), ratios(costs[BY_HAND]["cpu"], cost["cpu"]).show()]
            if cell in _CHART:
                section.ratios.setdefault(_CHART[cell], {})[name] = wall.median
        section.rows.append(row + [""] * (len(section.head) - len(row)))


# Cell, against, at least; by processor time where the way of the responses makes the server work too.
_TARGETS: Final = (
    (_S, BY_HAND, 2.0),
    (_S._replace(way="chunked"), BY_HAND, 1.9),
    (_S._replace(way="gzip"), BY_HAND, 1.8),
    (_S._replace(way="tls"), BY_HAND, 1.5),
    (_S, "transport limit", 1.6),
    (_S, "httpx+pydantic", 35.0),
    (_S._replace(consumer="everything"), BY_HAND, 1.5),
    (_M, BY_HAND, 1.5),
    (_M, "transport limit", 0.45),
    (_M._replace(consumer="everything"), BY_HAND, 1.1),
    (_M._replace(consumer="everything"), "aiohttp+cattrs", 3.5),
    (_L, BY_HAND, 2.5),
    (_L._replace(consumer="everything"), BY_HAND, 1.9),
    (_L._replace(consumer="everything"), "aiohttp+cattrs", 5.0),
    (Cell("S", 1), BY_HAND, 1.3),
)


def _judge(section: Section, measured: dict[Cell, _Costs]) -> None:
    for cell, against, target in _TARGETS:
        costs = measured.get(cell, {})
        by = "seconds" if cell.way == "plain" else "cpu"
        for name in (SDK, BATCHES):
            if name in costs and against in costs:
                ratio = ratios(costs[against][by], costs[name][by])
                what = f"{cell.label}: {name} against {against}{', by CPU' * (by == 'cpu')}"
                section.figures.append(Figure(what, f">= {target:g} x", ratio.show(unit=" x"), ratio.median >= target))


# Events in a body, what is read of them, at least.
_DECODE_TARGETS: Final = (
    (5, None, 1.05),
    (100, None, 2.0),
    (5_000, None, 5.0),
    (5, "everything", None),
    (100, "everything", 1.3),
    (5_000, "everything", 3.0),
)


def decode(bench: Bench) -> Section:
    """From bytes in memory to events, and to everything that a consumer reads of them, without a network."""
    section = Section(
        "Decoding alone",
        "No network, processor microseconds per event: np6_async's decoder to typed events against orjson.loads to "
        "dicts, and the same with every member read that the consumer *everything* reads.",
        ["events in the body", "read", "np6_async us", "orjson us", "times orjson", "times orjson, gc off"],
    )
    for events, consumer, target in _DECODE_TARGETS:
        by_collector = {}
        for collector in (True, False):
            runs = {
                how: partial(
                    bench.worker(how).run,
                    "decode",
                    how=how,
                    events=events,
                    consumer=consumer,
                    seconds=0.1 if bench.quick else 0.25,
                    collector=collector,
                )
                for how in (SDK, BY_HAND)
            }
            results = interleaved(bench.rounds, runs)
            by_collector[collector] = {how: [each["us"] for each in rounds] for how, rounds in results.items()}
        us, off = by_collector[True], by_collector[False]
        ratio = ratios(us[BY_HAND], us[SDK])
        section.rows.append(
            [
                f"{events:,}",
                consumer or "nothing",
                Spread.of(us[SDK]).show(),
                Spread.of(us[BY_HAND]).show(),
                ratio.show(),
                ratios(off[BY_HAND], off[SDK]).show(),
            ]
        )
        if target is not None:
            what = (
                f"decode{' and read everything' if consumer else ' only'}, {events:,} events: np6_async against orjson"
            )
            section.figures.append(Figure(what, f">= {target:g} x", ratio.show(unit=" x"), ratio.median >= target))
    return section
