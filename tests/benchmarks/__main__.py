"""Run the benchmarks: `python -m tests.benchmarks [--json FILE] [--quick]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.latency import ban_latency
from tests.benchmarks.measure import Figure, servers
from tests.benchmarks.throughput import bare_copy, through_daemon, through_ompgsql


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON too")
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages")
    options = parser.parse_args()
    with servers(60_000 if options.quick else 300_000) as bench:
        figures, rate, url = through_daemon(bench, "normal")
        figures += through_daemon(bench, "attack")[0]
        copy = bare_copy(bench, url)
        ompgsql = through_ompgsql(bench, url)
        figures += [
            Figure("asyncpg's bare COPY of the same rows", copy, "rows/s"),
            Figure("rsyslog's ompgsql, default batching", ompgsql, "messages/s"),
            Figure("ratio to bare COPY", rate / copy, "", "at least 0.3 is asked"),
            Figure("ratio to ompgsql", rate / ompgsql, "", "at least 5 is asked"),
            *ban_latency(bench),
        ]
    table = Table(title=f"{bench.messages} messages, {os.cpu_count()} cores, Python {platform.python_version()}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("note")
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:,.2f}", figure.unit, figure.note)
    Console(width=110).print(table)
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
