"""The scenarios other than throughput: memory, latency, stalls, scale, and what the extras cost."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from statistics import median

from .processes import Server, Spread, Worker, client_core, cores, interleaved, once, ratios, server_core
from .raw import raw_latency
from .report import Figure, Section
from .scenarios import BATCHES, BY_HAND, SDK, Bench
from .server import TRICKLE_CHUNKS, TRICKLE_SECONDS

_MIB = 1024 * 1024


def first_event(bench: Bench) -> Section:
    """A body that arrives slowly: when does the consumer see its first event?"""
    section = Section(
        "Time to the first event",
        f"A body of 2 MB, trickled over {TRICKLE_SECONDS:g} s in {TRICKLE_CHUNKS} chunks: milliseconds from the "
        "sending of the first event's last byte to the event in the consumer's hands.",
        ["contender", "ms"],
    )
    runs = {
        name: partial(bench.worker(name).run, "first_event", contender=name, base_url=bench.server.url)
        for name in (SDK, BY_HAND)
    }
    results = interleaved(min(bench.rounds, 5), runs)
    for name, rounds in results.items():
        late = Spread.of([each["late"] * 1_000 for each in rounds])
        section.rows.append([name, late.show(1)])
        if name == SDK:
            chunk = TRICKLE_SECONDS / TRICKLE_CHUNKS * 1_000
            what = "first event of a 2 MB body trickled over 1 s"
            section.figures.append(Figure(what, f"<= {chunk:g} ms", late.show(1, " ms"), late.median <= chunk))
    return section


def huge(bench: Bench) -> Section:
    """One body that is too large to keep as a list of dicts."""
    size = 50 if bench.quick else 200
    section = Section(
        "One huge body",
        f"A single contact with {size} MB of events, each time in a fresh process: growth of the resident memory's "
        "high-water mark, and speed.",
        ["contender", "peak growth MiB", "MB/s", "times by hand"],
    )
    with Server(core=server_core(), huge_mb=size) as server:
        for collector in (True, False) if not bench.quick else (True,):
            runs = {
                name: partial(
                    once,
                    "fetch",
                    contender=name,
                    base_url=server.url,
                    shape="H",
                    contacts=1,
                    concurrency=1,
                    collector=collector,
                )
                for name in (SDK, BY_HAND)
            }
            results = interleaved(bench.rounds if collector else 3, runs)
            speeds = {name: [size / each["seconds"] for each in rounds] for name, rounds in results.items()}
            for name, rounds in results.items():
                ratio = ratios(speeds[name], speeds[BY_HAND])
                growth = Spread.of([each["growth"] / _MIB for each in rounds])
                label = name if collector else f"{name}, gc off"
                section.rows.append([label, growth.show(), Spread.of(speeds[name]).show(0), ratio.show()])
                if name != BY_HAND and collector:
                    section.figures += [
                        Figure(
                            f"one {size} MB body: peak memory growth, {name}",
                            "<= 2 MiB",
                            growth.show(2, " MiB"),
                            growth.median <= 2,
                        ),
                        Figure(
                            f"one {size} MB body: speed of {name} against by hand",
                            ">= 2.5 x",
                            ratio.show(2, " x"),
                            ratio.median >= 2.5,
                        ),
                    ]
    return section


def slow_consumer(bench: Bench) -> Section:
    """Responses that arrive faster than they are consumed."""
    contacts = 12 if bench.quick else 30
    section = Section(
        "A slow consumer",
        f"{contacts} contacts of shape L at concurrency 10, a pause of 2 ms every 256 events, in a fresh process. "
        "*by hand* takes the lists of dicts as they are completed.",
        ["contender", "peak growth MiB"],
    )
    runs = {
        name: partial(once, "slow", contender=name, base_url=bench.server.url, contacts=contacts, pause=0.002)
        for name in (SDK, BY_HAND)
    }
    for name, rounds in interleaved(1 if bench.quick else 3, runs).items():
        growth = Spread.of([each["growth"] / _MIB for each in rounds])
        section.rows.append([name, growth.show()])
        if name == SDK:
            what = "peak memory growth, L at 10 with slow consumer"
            section.figures.append(Figure(what, "<= 4 MiB", growth.show(2, " MiB"), growth.median <= 4))
    return section


def scale(bench: Bench) -> Section:
    """More contacts: does each still cost the same, in time and in memory?"""
    many, millions = (20_000, 50_000) if bench.quick else (100_000, 1_000_000)
    section = Section(
        "Many contacts",
        "Shape S at concurrency 50, runs after each other in one process. The cost is compared in processor time, "
        f"which other processes of the machine do not add to. The last run takes {millions:,} lazily made ids with "
        "empty answers.",
        ["contender", "contacts", "us/contact", "processor us/contact", "peak growth MiB", "most tasks"],
    )

    def run(worker: Worker, name: str, contacts: int, shape: str = "S") -> tuple[float, float]:
        options = {"shape": shape, "contacts": contacts, "concurrency": 50, "warm_up": 500, "count_tasks": True}
        result = worker.run("fetch", contender=name, base_url=bench.server.url, **options)
        us, cpu = result["seconds"] * 1e6 / contacts, result["cpu"] * 1e6 / contacts
        growth = result["growth"] / _MIB
        tasks = str(result["tasks"] or "")
        section.rows.append([name, f"{contacts:,}", f"{us:.0f}", f"{cpu:.0f}", f"{growth:.2f}", tasks])
        return cpu, growth

    with Worker(core=client_core()) as worker:
        run(worker, SDK, 100)
        before = [run(worker, SDK, 1_000)[0] for _ in range(3)]
        run(worker, SDK, 10_000)
        cost, growth = run(worker, SDK, many)
        after = [run(worker, SDK, 1_000)[0] for _ in range(3)]
        _, growth_millions = run(worker, SDK, millions, "E")
    with Worker(core=client_core()) as worker:
        run(worker, BY_HAND, 1_000)
        run(worker, BY_HAND, many)
    ratio = cost / median(before + after)
    section.figures += [
        Figure(f"cost per contact at {many:,} against 1,000", "<= 1.1 x", f"{ratio:.2f} x", ratio <= 1.1),
        Figure(f"memory growth at {many:,} contacts", "<= 1 MiB", f"{growth:.2f} MiB", growth <= 1),
        Figure(f"memory growth at {millions:,} lazy ids", "", f"{growth_millions:.2f} MiB", None),
    ]
    return section


def stall(bench: Bench) -> Section:
    """How long the event loop is blocked for everything else."""
    section = Section(
        "Worst stall of the event loop",
        "During 10 contacts of shape L at concurrency 10: the longest that a task which wants to run every "
        "millisecond was kept waiting, in milliseconds. The least of the rounds is the nearest to what the contender "
        "itself does: other processes only add to it.",
        ["contender", "ms"],
    )
    runs = {
        name: partial(bench.fetch, name, shape="L", contacts=10, concurrency=10, heartbeat=True)
        for name in (SDK, BATCHES, BY_HAND)
    }
    for name, rounds in interleaved(bench.rounds, runs).items():
        worst = Spread.of([each["stall"] * 1_000 for each in rounds])
        section.rows.append([name, worst.show(1)])
        if name != BY_HAND:
            what = f"worst loop stall during L, {name}"
            section.figures.append(Figure(what, "<= 5 ms", worst.show(1, " ms"), worst.median <= 5))
    return section


def imports(bench: Bench) -> Section:
    """What it costs to import the package."""
    section = Section(
        "Import time",
        "Milliseconds by `-X importtime`, compiled files present: with all that is imported on the way.",
        ["import", "ms"],
    )
    statements = ("np6_async", "aiohttp", "aiohttp, orjson", "httpx, pydantic", "cattrs", "msgspec")
    runs = {names: partial(_import_ms, names) for names in statements}
    results = interleaved(bench.rounds, runs)
    for names, rounds in results.items():
        section.rows.append([names, Spread.of(rounds).show(0)])
    own = Spread.of([a - b for a, b in zip(results["np6_async"], results["aiohttp"], strict=True)])
    section.rows.append(["np6_async beyond aiohttp", own.show(0)])
    section.figures.append(Figure("import np6_async beyond import aiohttp", "", own.show(0, " ms"), None))
    return section


def _import_ms(names: str) -> float:
    code = [sys.executable, "-X", "importtime", "-c", f"import {names}"]
    lines = subprocess.run(code, capture_output=True, text=True, check=True).stderr.splitlines()
    total = 0
    for line in lines:
        _, cumulative, name = line.rsplit("|", 2)
        if name[1:] in names.split(", "):  # one space: no other module imported it
            total += int(cumulative)
    return total / 1_000


def hooks(bench: Bench) -> Section:
    """What hooks cost."""
    section = Section(
        "Hooks",
        "S at concurrency 50, contacts per second. What hooks cost while there are none is less than what one that "
        "does nothing adds.",
        ["hooks", "contacts/s", "against none"],
    )
    contacts = 1_000 if bench.quick else 2_000
    runs = {
        str(count): partial(bench.fetch, SDK, shape="S", contacts=contacts, concurrency=50, hooks=count)
        for count in (0, 1)
    }
    results = interleaved(bench.rounds, runs)
    rates = {count: [each["contacts"] / each["seconds"] for each in rounds] for count, rounds in results.items()}
    for count in rates:
        section.rows.append([count, Spread.of(rates[count]).show(0), ratios(rates[count], rates["0"]).show()])
    section.figures.append(
        Figure("one hook that does nothing, against none", "", ratios(rates["1"], rates["0"]).show(2, " x"), None)
    )
    return section


def processes(bench: Bench) -> Section:
    """Whether a second process doubles the throughput: nothing that is shared may prevent it."""
    roomy = len(cores()) > 2
    section = Section(
        "Two processes",
        "M at concurrency 50, contacts per second of both together. "
        + (
            "Server and clients on processors of their own."
            if roomy
            else "Server and clients share the processors, which bounds what can be reached."
        ),
        ["processes", "contacts/s", "against one"],
    )
    contacts = 400 if bench.quick else 1_000
    with (
        Server(core=server_core() if roomy else None) as server,
        Worker(core=cores()[1] if roomy else None) as one,
        Worker(core=cores()[2] if roomy else None) as two,
    ):

        def together(*workers: Worker) -> float:
            for worker in workers:
                options = {"shape": "M", "contacts": contacts, "concurrency": 50}
                worker.start("fetch", contender=BATCHES, base_url=server.url, **options)
            return sum(contacts / worker.result()["seconds"] for worker in workers)

        rates = interleaved(bench.rounds, {"1": partial(together, one), "2": partial(together, one, two)})
    ratio = ratios(rates["2"], rates["1"])
    for count in rates:
        section.rows.append([count, Spread.of(rates[count]).show(0), ratios(rates[count], rates["1"]).show()])
    section.figures.append(Figure("two processes against one", ">= 1.7 x", ratio.show(2, " x"), ratio.median >= 1.7))
    return section


def delay(bench: Bench) -> Section:
    """A server that takes its time: are all slots always in use?"""
    latency = raw_latency(bench.server.port, "D", 50)
    section = Section(
        "A server 20 ms away",
        f"S at concurrency 50: throughput against concurrency / latency. The latency is {latency * 1_000:.1f} ms: what "
        "a raw client sees that asks one thing after the other.",
        ["contender", "contacts/s", "of the possible"],
    )
    contacts = 1_000 if bench.quick else 2_500
    runs = {
        name: partial(bench.fetch, name, shape="D", contacts=contacts, concurrency=50)
        for name in (SDK, BY_HAND, "transport limit")
    }
    for name, rounds in interleaved(bench.rounds, runs).items():
        rates = [each["contacts"] / each["seconds"] for each in rounds]
        share = Spread.of([rate * latency / 50 for rate in rates])
        section.rows.append([name, Spread.of(rates).show(0), share.show()])
        if name == SDK:
            what = "20 ms server delay, concurrency 50: throughput of concurrency / latency"
            section.figures.append(Figure(what, ">= 0.9", share.show(), share.median >= 0.9))
    return section


def retained(bench: Bench) -> Section:
    """What it costs to keep an event."""
    section = Section(
        "Memory of an event that is kept",
        "Resident memory for each of many kept events, in bytes, each in a fresh process.",
        ["contender", "bytes/event", "of the dict's"],
    )
    events = 10_000 if bench.quick else 50_000
    results = interleaved(
        1 if bench.quick else 3, {how: partial(once, "retained", how=how, events=events) for how in (SDK, BY_HAND)}
    )
    sizes = {name: [each["bytes"] for each in rounds] for name, rounds in results.items()}
    for name in sizes:
        section.rows.append([name, Spread.of(sizes[name]).show(0), ratios(sizes[name], sizes[BY_HAND]).show()])
    ratio = ratios(sizes[SDK], sizes[BY_HAND])
    section.figures.append(
        Figure("memory of one retained event, of the orjson dict's", "<= 0.30", ratio.show(), ratio.median <= 0.30)
    )
    return section
