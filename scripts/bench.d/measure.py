"""Contenders measured in turn: a cell is one job, and each contender one way to do it."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile


# A peer that the warm-up shows to be so many times slower than the fastest is not run again: it can win no more.
BEATEN = 1.6


class Contender:
    """`before` gets a place ready for one run, `after` looks at what is there and cleans it, neither is timed. `own_clock` is for a
    program that prints its nanoseconds itself. `role` is ours, peer or floor. What has the same `key` in another cell is not measured again."""

    def __init__(self, name, argv, role="peer", before=None, after=None, own_clock=False, env=None, key=None):
        self.name, self.argv, self.role, self.key = name, argv, role, key
        self.before, self.after, self.own_clock, self.env = before, after, own_clock, env


class Bench:
    def __init__(self, args, here):
        self.runs, self.only, self.cache = args.runs, args.only, args.cache
        self.quick, self.middle = args.quick, args.middle
        self.source = os.path.join(here, "bench.d")
        self.cells, self.missing, self.memory, self.known = [], {}, [], {}
        self.work = tempfile.mkdtemp(prefix="chainroot-bench-")
        self.mount("tmpfs", self.work, "tmpfs", "size=75%,mode=755")
        built = [os.path.join(here, "build"), "--and", "floors"]
        if args.tools:
            self.tools, self.libc = os.path.realpath(args.tools), None
        else:
            done = subprocess.run(built, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            sys.stderr.write(done.stderr)
            if done.returncode:
                sys.exit("bench: scripts/build failed")
            self.tools = done.stdout.strip()
            self.libc = done.stderr.rsplit("C library: ", 1)[-1].strip()
        self.floors = os.path.join(os.path.dirname(self.tools), "bench", "floors")
        self.runner = self.compile("run.c", "run")

    # What is there to measure with.

    def compile(self, source, name, *flags):
        """A static C program, with musl where that is there, as ours."""
        compiler = next((cc for cc in ("musl-gcc", "cc") if shutil.which(cc)), None)
        if compiler != "musl-gcc":
            self.lacks("musl-gcc", "the C floors are linked with glibc, which starts slower")
        program = os.path.join(self.work, name)
        subprocess.run([compiler, "-O2", "-static", "-s", *flags, os.path.join(self.source, source), "-o", program], check=True)
        return program

    def tool(self, name):
        return os.path.join(self.tools, name)

    def has(self, *programs):
        """Whether all of these are there; what is not is named at the end."""
        gone = [program for program in programs if not shutil.which(program)]
        for program in gone:
            self.lacks(program, "not installed")
        return not gone

    def lacks(self, what, why):
        if self.missing.setdefault(what, why) == why:
            say(f"{what}: {why}")

    # Mounts, all in our own namespace.

    def mount(self, source, target, kind, options=""):
        subprocess.run(["mount", "-t", kind, "-o", options or "defaults", source, target], check=True)

    def close(self):
        subprocess.run(["umount", "-R", "-l", self.work], check=False)
        os.rmdir(self.work)

    # Measuring.

    def cell(self, job, name, contenders, count=1, at_once=1, **facts):
        """`count` starts of each contender in a round, `at_once` at a time."""
        if self.only and self.only not in name:
            return None
        say(name)
        samples = {contender.name: [] for contender in contenders}
        alive = [contender for contender in contenders if contender.key not in self.known]
        warm = {}
        for round_number in range(self.runs + 1):
            if round_number == 1 and count == at_once == 1:
                peers = {contender: warm[contender.name][0][0] for contender in alive if contender.role == "peer"}
                for contender in [peer for peer, wall in peers.items() if wall > BEATEN * min(peers.values())]:
                    samples[contender.name] = warm[contender.name]
                    alive.remove(contender)
            for contender in list(alive):
                measured = self.turn(contender, count, at_once)
                if measured is None:
                    alive.remove(contender)
                    self.lacks(f"{contender.name} ({name})", "failed")
                elif round_number:
                    samples[contender.name] += measured
                else:
                    warm[contender.name] = measured
        rows = []
        for contender in contenders:
            if contender.key in self.known:
                rows.append(self.known[contender.key])
            elif samples[contender.name]:
                rows.append(row(contender, samples[contender.name]))
                if contender.key:
                    self.known[contender.key] = rows[-1]
        cell = {"job": job, "name": name, "at_once": at_once, "runs": self.runs, "rows": rows, **facts}
        self.cells.append(cell)
        return cell

    def turn(self, contender, count, at_once):
        if contender.before:
            contender.before()
        argv = contender.argv if contender.own_clock else [self.runner, str(count), str(at_once), *contender.argv]
        # An environment of a few variables, so that what a shell carries does not matter.
        env = {"PATH": os.environ["PATH"], "HOME": "/root", "TERM": "dumb", "LC_ALL": "C.UTF-8", **(contender.env or {})}
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True)
        whole = contender.after() if contender.after else None
        if done.returncode == 0 and whole is False:
            say(f"{contender.name}: ended with success, but its result is not whole")
            return None
        if done.returncode:
            say(f"{contender.name}: {done.stderr.strip()[-300:]}")
            return None
        lines = [line.split() for line in done.stdout.splitlines()]
        if contender.own_clock:
            return [(int(lines[-1][0]) / 1e6, None, None)]
        if at_once > 1:
            # One sample: the time that a container took on average when so many start at once.
            return [(int(lines[-1][0]) / 1e6 / count, None, max(int(line[2]) for line in lines[:-1]))]
        return [(int(wall) / 1e6, int(cpu) / 1e6, int(peak)) for wall, cpu, peak in lines[:-1]]


def row(contender, samples):
    walls = sorted(wall for wall, _, _ in samples)
    cpus = [cpu for _, cpu, _ in samples if cpu is not None]
    peaks = [peak for _, _, peak in samples if peak is not None]
    return {
        "name": contender.name,
        "role": contender.role,
        "median_ms": statistics.median(walls),
        "least_ms": walls[0],
        "p90_ms": walls[int(len(walls) * 0.9 - 0.5)],
        "processor_ms": statistics.median(cpus) if cpus else None,
        "peak_kib": max(peaks) if peaks else None,
        "samples": len(walls),
    }


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)
