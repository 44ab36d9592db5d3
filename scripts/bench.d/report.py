"""The table, the JSON and the plot."""

import json
import os
import platform
import shutil
import subprocess

import measure
import plot

# In the table's order, by the titles of its parts.
TITLES = {"start": "Starting", "extract": "Extracting"}
JOBS = list(TITLES)
PEERS = ["bwrap", "unshare", "crun", "runc", "systemd-nspawn", "tar", "bsdtar", "pigz", "igzip", "xz", "zstd", "umoci", "skopeo"]


def write(bench, out):
    os.makedirs(out, exist_ok=True)
    where = {"machine": machine(), "libc": bench.libc, "peers": versions()}
    results = {"where": {job: where for job in JOBS if any(cell["job"] == job for cell in bench.cells)}, "runs": bench.runs,
               "cells": bench.cells, "memory": bench.memory, "missing": bench.missing}
    keep(results, os.path.join(out, "benchmark.json"))
    with open(os.path.join(out, "benchmark.json"), "w") as file:
        json.dump(results, file, indent=1)
    text = table(results)
    put_table(out, text)
    put_readme(out, results)
    with open(os.path.join(out, "benchmark.svg"), "w") as file:
        file.write(plot.svg(results))
    print(text)
    print(f"In {os.path.normpath(out)}: benchmark.json, benchmark.svg, benchmark.md")


def keep(results, file):
    """What was measured before of a job that this run was not about."""
    try:
        with open(file) as before:
            before = json.load(before)
    except (OSError, ValueError):
        return
    # Numbers that do not say where they are from are of an older benchmark.
    if not results["where"] or "where" not in before:
        return
    others = [cell for cell in before["cells"] if cell["job"] not in results["where"]]
    results["cells"] = sorted([*others, *results["cells"]], key=lambda cell: JOBS.index(cell["job"]))
    if "start" not in results["where"]:
        results["memory"] = before["memory"]
    results["where"] = {**before["where"], **results["where"]}


def put_table(out, text):
    """Below its heading in a page that is there, whose words stay."""
    page, heading, words = os.path.join(out, "benchmark.md"), "## The table\n", ""
    if os.path.exists(page):
        with open(page) as file:
            words = file.read().split(heading)[0]
    with open(page, "w") as file:
        file.write(words + heading + "\n" + text.replace("## ", "### "))


# What the README shows of it, and the marks between which it does.
README_CELLS = ["one container", "200 mounts on the host", "debian.tar onto ext4", "debian.tar.gz onto ext4", "debian.tar.zst onto ext4",
                "docker save, 10 layers, onto ext4"]
README_BEGIN, README_END = "<!-- Made by scripts/bench --out docs -->\n", "<!-- The end of it -->\n"


def put_readme(out, results):
    """Where OUT is a docs directory beside a README that has the marks."""
    page = os.path.join(out, "..", "README.md")
    if not os.path.exists(page):
        return
    with open(page) as file:
        before, begin, rest = file.read().partition(README_BEGIN)
    after = rest.partition(README_END)[2]
    if not begin or not after:
        return
    lines = ["", "| median, in ms | chainroot | others |", "|---|---:|---|"]
    for cell in results["cells"]:
        if cell["name"] in README_CELLS:
            peers = sorted((row for row in cell["rows"] if row["role"] == "peer"), key=lambda row: row["median_ms"])
            others = ", ".join(f"{peer_name(row)} {number(row['median_ms'])}" for row in peers if "init" not in row["name"])
            lines.append(f"| {cell['name']} | {number(our(cell)['median_ms'])} | {others} |")
    with open(page, "w") as file:
        file.write(before + begin + "\n".join([*lines, "", ""]) + README_END + after)


def peer_name(row):
    return row["name"].replace("bwrap, CHAINROOT_BENCH_BWRAP", "bwrap (musl)").replace("|", chr(92) + "|")


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"processor": model, "processors": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20}


def versions():
    """What each peer says of itself, in its first line."""
    found = []
    for program in (os.environ.get("CHAINROOT_BENCH_BWRAP"), *PEERS):
        if program and shutil.which(program):
            done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, check=False)
            found.append(done.stdout.partition("\n")[0].strip())
    return found


def table(results):
    lines = []
    for job, title in TITLES.items():
        cells = [cell for cell in results["cells"] if cell["job"] == job]
        if not cells:
            continue
        where = results["where"][job]
        m, runs = where["machine"], sorted({cell["runs"] for cell in cells})
        rounds = str(runs[0]) if runs[0] == runs[-1] else f"{runs[0]} to {runs[-1]}"
        lines += [f"## {title}", "", f"{m['processors']} processors ({m['processor']}), {m['memory_mib']} MiB, Linux {m['kernel']}; "
                  f"medians of {rounds} interleaved rounds after a warm-up, in which a peer that "
                  f"takes {measure.BEATEN} times the fastest one's time has its only run; our C library: {where['libc'] or 'not known'}."]
        if where.get("peers"):
            lines += ["", f"Peers: {'; '.join(where['peers'])}."]
        lines += ["", "| what | who | median ms | least | p90 | processor ms | peak MiB | times ours |",
                  "|---|---|---:|---:|---:|---:|---:|---:|"]
        for cell in cells:
            lines += cell_lines(cell)
        lines += ["", "| what | ours | fastest peer | ours/peer | floor | ours/floor |", "|---|---:|---|---:|---|---:|"]
        lines += [*(summary(cell) for cell in cells if our(cell)), ""]
        if job == "start" and results["memory"]:
            lines += ["Memory of what waits while the program runs:", "", "| who | processes | resident KiB | proportional | private |", "|---|---:|---:|---:|---:|"]
            lines += [*(f"| {m['name']} | {m['processes']} | {m['rss_kib']} | {m['pss_kib']} | {m['private_kib']} |" for m in results["memory"]), ""]
    if results["missing"]:
        lines += ["Not measured:", ""] + [f"- {what}: {why}" for what, why in results["missing"].items()]
    return "\n".join(lines).rstrip("\n") + "\n"


def our(cell):
    return next((row for row in cell["rows"] if row["role"] == "ours"), None)


def fastest(cell, role):
    rows = [row for row in cell["rows"] if row["role"] == role]
    return min(rows, key=lambda row: row["median_ms"]) if rows else None


def floor_of(cell):
    """For extraction the larger of its parts; for starting the program that does as ours does, link by link."""
    rows = [row for row in cell["rows"] if row["role"] == "floor"]
    if cell["job"] == "start":
        rows = [row for row in rows if "three" in row["name"]] or rows
    return max(rows, key=lambda row: row["median_ms"]) if rows else None


def cell_lines(cell):
    mine = our(cell)
    order = {"ours": 0, "part": 1, "peer": 2, "floor": 3}
    for n, row in enumerate(sorted(cell["rows"], key=lambda row: (order[row["role"]], row["median_ms"]))):
        peak = f"{row['peak_kib'] / 1024:.1f}" if row["peak_kib"] else ""
        processor = number(row["processor_ms"]) if row["processor_ms"] is not None else ""
        ratio = f"{row['median_ms'] / mine['median_ms']:.2f}" if mine else ""
        once = " (once)" if row["samples"] == 1 and cell["runs"] > 1 else ""
        yield (f"| {cell['name'] if n == 0 else ''} | {row['name'].replace('|', chr(92) + '|')}{once} | {number(row['median_ms'])} | {number(row['least_ms'])} | "
               f"{number(row['p90_ms'])} | {processor} | {peak} | {ratio} |")


def summary(cell):
    mine, peer, floor = our(cell), fastest(cell, "peer"), floor_of(cell)
    parts = [cell["name"], number(mine["median_ms"])]
    for other in (peer, floor):
        parts += [f"{other['name'].replace('|', chr(92) + '|')}, {number(other['median_ms'])}", f"{mine['median_ms'] / other['median_ms']:.2f}"] if other else ["", ""]
    return "| " + " | ".join(parts) + " |"


def number(ms):
    return f"{ms:.2f}" if ms < 10 else f"{ms:.0f}"
