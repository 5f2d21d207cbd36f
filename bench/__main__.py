"""Runs the benchmarks one after the other and prints each figure with its goal, and the machine."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figure import Figure

BENCHES = (
    "facts",
    "links",
    "rows",
    "webhooks",
    "esps",
    "latency",
    "summary",
    "campaigns",
    "pages",
    "uniques",
    "exports",
    "report",
    "page",
    "recovery",
    "start",
)


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}; load {load:.1f} at the start"
    )


def table_of(figures: list[Figure]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("what", "figure", "goal", "ratio", ""):
        table.add_column(name, justify="left" if name in ("what", "") else "right")
    for figure in figures:
        goal, ratio = "", ""
        if figure.goal is not None:
            goal = f"{'≥' if figure.higher_is_better else '≤'} {figure.goal:,g}"
        if figure.ratio is not None:
            ratio = f"{figure.ratio:.2f}"
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.3g}"
        missed = figure.ratio is not None and figure.ratio < 1
        table.add_row(
            figure.what, f"{value} {figure.unit}", goal, ratio, figure.note, style="red" if missed else None
        )
    return table


def main() -> int:
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.stderr.write(f"no benchmark {unknown[0]} (there are: {', '.join(BENCHES)})\n")
        return 2
    progress = Console(stderr=True)
    described = machine()
    figures: list[Figure] = []
    for number, name in enumerate(names, 1):
        progress.print(f"[{number}/{len(names)}] {name} …", markup=False)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(
            prefix=f"campaign-reports-bench-{name}-", ignore_cleanup_errors=True
        ) as folder:
            measured: list[Figure] = importlib.import_module(f"bench.{name}").run(Path(folder))
        progress.print(table_of(measured), f"({time.monotonic() - began:.0f} s)")
        figures += measured
    out = Console(width=None if sys.stdout.isatty() else 140)
    out.print(f"\n{described}\n", markup=False, highlight=False)
    out.print(table_of(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
