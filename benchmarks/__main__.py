"""``python -m benchmarks``: run scenarios, print their tables, write RESULTS.md and chart.svg."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from . import chart, costs, scenarios
from .contenders import NAMES
from .report import show, targets, write

HERE = Path(__file__).parent
SCENARIOS = {
    "throughput": scenarios.throughput,
    "decode": scenarios.decode,
    "huge": costs.huge,
    "slow_consumer": costs.slow_consumer,
    "first_event": costs.first_event,
    "scale": costs.scale,
    "stall": costs.stall,
    "retained": costs.retained,
    "processes": costs.processes,
    "delay": costs.delay,
    "hooks": costs.hooks,
    "imports": costs.imports,
    "server": scenarios.server,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"default: all of {', '.join(SCENARIOS)}")
    parser.add_argument("--quick", action="store_true", help="a few minutes: fewer cells, rounds and contacts")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 7, with --quick 3)")
    parser.add_argument("--contender", action="append", choices=NAMES, help="only this one (may be repeated)")
    parser.add_argument(
        "--cell",
        action="append",
        type=scenarios.cell,
        metavar="SHAPE@N[:OPTION]...",
        help="throughput: only this, such as S@50:tls; options: everything, chunked, gzip, tls, off (the collector)",
    )
    parser.add_argument("--no-check", action="store_true", help="skip the check that all contenders read the same")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md and chart.svg also after a partial run")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    cells = options.cell
    rounds = options.rounds or (3 if options.quick else 7)
    bench = scenarios.Bench(rounds, options.quick, tuple(options.contender or NAMES))
    began = time.monotonic()
    sections = []
    try:
        if not options.no_check:
            scenarios.check(bench)
        for name in options.scenarios or (["throughput"] if cells else SCENARIOS):
            section = scenarios.throughput(bench, cells) if name == "throughput" else SCENARIOS[name](bench)
            sections.append(section)
            print(f"\n{show(section)}\n\n({time.monotonic() - began:.0f} s up to here)", flush=True)
    finally:
        bench.close()
    print(f"## Targets\n\n{targets(sections)}\n\n{time.monotonic() - began:.0f} s")
    whole = not (options.scenarios or cells or options.contender)
    if whole or options.write:
        command = "python -m benchmarks" + " --quick" * options.quick
        load = f"load average {os.getloadavg()[0]:.1f}"
        write(HERE / "RESULTS.md", sections, command, rounds, load)
        for section in sections:
            if section.ratios:
                chart.write(HERE / "chart.svg", section.ratios)


if __name__ == "__main__":
    main()
