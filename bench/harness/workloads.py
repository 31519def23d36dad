# SPDX-License-Identifier: MIT
"""The workloads of bench/compare, one table for each group, and what is asked of libkmm in each.

A workload is one command that is run under every allocator. Its measure is
  cpu      user + system time of the program and its children: for a fixed amount of work,
  wall     elapsed time: where waiting is the point,
  printed  what the program prints, lower is better, one figure or several, each a row of the table of times
           (for a fixed duration: the inverse of its throughput).
Its memory is the peak resident size, or what the program prints if that tells more, each figure a row of the table of
memory. A program may tell its story for the plots over time: lines "at SECONDS RESIDENT LIVE", in MiB.
In a command {build} is the folder of the built micro programs, {src} the sources, {work} a folder for the run's
own files, {mb} the mimalloc-bench folder, {n} the number of CPUs.
"""
import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field


@dataclass
class Figure:
    row: str
    pattern: str                # a regular expression whose first group is the figure
    unit: str = "s"
    inverse: bool = False       # it is a throughput: take its inverse
    scale: float = 1            # of what is printed, to get its unit

    def read(self, output):
        match = re.search(self.pattern, output, re.MULTILINE)
        if not match or not float(match.group(1)) > 0:
            raise ValueError(f"{self.row}: no figure in its output: {output[-200:]!r}")
        value = self.scale * float(match.group(1))
        return 1 / value if self.inverse else value


@dataclass
class Workload:
    name: str
    group: str
    command: str
    printed: tuple = ()         # Figures
    wall: bool = False
    resident: tuple = ()        # Figures of memory; without any it is the peak resident size, in MiB
    client: str = ""            # the command is a server, and ends after this one; it is the client's output that is read
    series: tuple = ()          # (curve, number of threads): a point in the plots over the number of threads
    times: int = 1              # runs a visit, of which the median is taken
    visits: int = 1             # to each allocator a round, taking turns; again the median
    rounds: int = 0             # at most so many rounds, where they are long and much alike
    needs: tuple = ()           # programs or files without which it is left out
    setup: tuple = ()           # names of functions below, each makes one input in {work}
    env: dict = field(default_factory=dict)
    stdin: str = ""
    cwd: str = ""
    traced: bool = False        # its output has a story
    own_allocator: bool = False  # links an allocator of its own: for the reference libc itself is preloaded

    def argv(self, places):
        return split(self.command, places)

    def missing(self, places):
        """The first thing that this workload lacks here, or None."""
        for need in (*self.needs, self.argv(places)[0]):
            path = need.format(**places)
            if not (os.path.exists(path) if "/" in path else in_path(path)):
                return path
        return None

    @property
    def measure(self):
        return "printed" if self.printed else "wall" if self.wall else "cpu"

    @property
    def units(self):
        """{row: unit} of its figures."""
        return {f.row: f.unit for f in self.printed} or {self.name: "s"}

    @property
    def memory_units(self):
        """{row: unit} of its memory."""
        return {f.row: f.unit for f in self.resident} or {self.name: "MiB"}

    @property
    def is_read(self):
        return bool(self.printed or self.resident or self.traced)

    def figures(self, sample, output):
        """{row: number}, from launch's fields and the program's output; ValueError when one is not there."""
        if self.printed:
            return {f.row: f.read(output) for f in self.printed}
        wall, cpu = sample["wall_ns"] / 1e9, (sample["user_us"] + sample["sys_us"]) / 1e6
        return {self.name: wall if self.wall else max(cpu, 1e-6)}

    def memory(self, sample, output):
        """{row: number}, as of figures()."""
        return {f.row: f.read(output) for f in self.resident} or {self.name: sample["maxrss_kib"] / 1024}

    def trace(self, output):
        """[[seconds, resident, live]], in MiB; empty when the program tells none."""
        points = re.findall(r"^at ([0-9.]+) ([0-9.]+) ([0-9.]+)$", output, re.MULTILINE) if self.traced else []
        return [[float(number) for number in point] for point in points]


@dataclass
class Goal:
    """The most that libkmm's time may be of the best peer's in a row of a group."""
    ceiling: float
    best_runs: bool = False     # the best run of each, not the median of the ratios
    packaged: bool = False      # the best of the preloaded libraries that are Debian packages


GOALS = {"micro": Goal(0.95, best_runs=True), "realloc": Goal(0.95, best_runs=True), "tail": Goal(1.0),
         "startup": Goal(1.02, packaged=True)}
OTHER_GOAL = Goal(1.05)
MEMORY_CEILING = 1.3            # of the reference's, for a program

# Groups that have a geometric mean, and the groups that are counted in it.
MEANS = {"micro": ("micro",), "startup": ("startup",), "scaling": ("scaling",), "macro": ("macro",),
         "mimalloc-bench": ("mimalloc-bench",), "programs": ("macro", "mimalloc-bench")}
PROGRAMS = MEANS["programs"]


def split(command, places):
    return [part.format(**places) for part in shlex.split(command)]


def in_path(program):
    return any(os.access(os.path.join(d, program), os.X_OK) for d in os.environ.get("PATH", "").split(":"))


def result(row, label, unit):
    """A line that bench.h's report() prints."""
    return Figure(row, rf"^{re.escape(label)} ([0-9.]+)", unit)


def kib(row, label):
    return Figure(row, rf"^{label} ([0-9.]+) KiB", "MiB", scale=1 / 1024)


def micro(name, command, group="micro", unit="ns/pair", rows=None, **more):
    """rows: {row: label of the line}; by default the program's name is the label of the only one."""
    rows = rows or {name: command.split()[0]}
    return Workload(name, group, "{build}/bench/micro/" + command,
                    tuple(result(row, label, unit) for row, label in rows.items()), **more)


MICRO = [
    micro("lifo", "lifo 20000000 3"),
    micro("fifo", "fifo 10000 1000"),
    micro("random-small", "random 4096 8 512 10000000"),
    micro("random-mid", "random 65536 16 4096 3000000"),
    micro("random-large", "random 256 8192 262144 300000"),
    micro("delete", "delete 10000000 3", rows={"delete": "delete", "delete-sized": "delete-sized"}),
    micro("grow", "grow 1024", "realloc", "ms", {"grow": "grow", "grow-realloc": "grow-realloc"}),
]

TAIL = [
    micro("tail", "tail 2000000 2", "tail", "ns", {f"tail-{p}": p for p in ("p50", "p99", "p99.9", "p99.99")}),
]

STARTUP = [
    Workload("start-true", "startup", "/bin/true", wall=True, times=20, visits=10),
    Workload("start-git", "startup", "git --version", wall=True, times=10, visits=10),
    Workload("start-python", "startup", "/usr/bin/python3 -c pass", wall=True, times=4, visits=10),
]

# As many live blocks and as much work for any number of threads: see the programs.
SCALING = [micro(f"larson-{n}", f"larson {n} 16000000", "scaling", series=("larson", n)) for n in (2, 8, 64, 512)]
SCALING += [micro(f"xthread-{n}", f"xthread {n // 2} 4000000", "scaling", series=("producer/consumer", n))
            for n in (2, 8, 64, 512)]


def sleepers(name, options):
    return Workload(name, "sleepers", "{build}/bench/micro/sleepers " + options, resident=(kib(name, "over"),), rounds=3)


SLEEPERS = [
    sleepers("sleepers", "-l 8"),
    sleepers("sleepers-freed", "-l 0"),
    sleepers("sleepers-burst", "-l 0 -b"),
]

MACRO = [
    Workload("python", "macro", "/usr/bin/python3 {src}/tests/preload/threads.py 60"),
    Workload("python-malloc", "macro", "/usr/bin/python3 {src}/bench/macro/objects.py 12",
             env={"PYTHONMALLOC": "malloc"}),
    Workload("sqlite", "macro", "sqlite3 -batch :memory:", stdin="{src}/bench/macro/rows.sql"),
    Workload("gcc", "macro", "g++ -std=c++17 -O1 -c {src}/tests/preload/templates.cc -o {work}/templates.o"),
    Workload("gs", "macro", "gs -q -dBATCH -dNOPAUSE -dSAFER -sDEVICE=ppmraw -r100 -sOutputFile=/dev/null {src}/bench/macro/page.ps"),
    Workload("lua", "macro", "lua5.4 {src}/bench/macro/tables.lua 3"),
    Workload("z3", "macro", "z3 {work}/puzzle.smt2", setup=("puzzle",)),
    Workload("perl", "macro", "perl {src}/tests/preload/hashes.pl 1"),
    Workload("git", "macro", "git -C {work}/repo -c pack.threads={n} repack -q -a -d -f --window=30",
             setup=("repository",)),
    Workload("sort", "macro", "sort --parallel={n} -S 200M -k2,2 {work}/lines -o {work}/sorted", setup=("lines",)),
    Workload("node", "macro", "node {src}/tests/preload/workers.js 30"),
    Workload("redis", "macro", "redis-server --port 0 --unixsocket {work}/sock --save '' --appendonly no",
             (Figure("redis", r"([0-9.]+) requests per second", "s a request", inverse=True),), own_allocator=True,
             needs=("redis-benchmark", "redis-cli"),
             client="redis-benchmark -s {work}/sock -r 100000 -n 100000 -q -P 16 lpush __rand_int__ 1 2 3 4 5"),
]


def home(name, command, printed=(), resident=(), **more):
    """Does memory go home? Long and much alike, with the story of what is resident and live."""
    return Workload(name, "home", command, printed, resident=resident, rounds=3, traced=True, **more)


HOME = [
    home("ratchet", "{build}/bench/macro/ratchet 128 10",
         resident=tuple(result(f"ratchet-{n}", f"ratchet-{n}", "resident/live") for n in (1, 2))),
    home("idle", "{build}/bench/macro/idle 1024 10", (result("idle-below-32", "below", "s"),), (kib("idle", "resident"),)),
    home("day", "{build}/bench/macro/day 128 60", resident=(result("day", "day", "resident/live"),)),
    home("redis-lru", "redis-server --port 0 --unixsocket {work}/sock --save '' --appendonly no --maxmemory 100mb "
         "--maxmemory-policy allkeys-lru", (result("redis-lru-inserts", "inserts", "s"),), (kib("redis-lru", "resident"),),
         client="/usr/bin/python3 {src}/bench/macro/inserts.py {work}/sock 700000 10", needs=("redis-cli",), own_allocator=True),
]


HUGE = [
    Workload("huge", "huge", "{build}/bench/macro/huge 512 20",
             (result("huge-fill", "huge-fill", "ns/object"), result("huge-step", "huge-step", "ns")),
             resident=(result("huge-sparse", "huge-sparse", "resident/live"),), rounds=3, traced=True),
]


def mb(name, command, pattern="", unit="s", inverse=False, **more):
    """With a pattern it runs for a fixed time and prints what it got done."""
    return Workload(name, "mimalloc-bench", "{mb}/out/bench/" + command,
                    (Figure(name, pattern, unit, inverse),) if pattern else (), cwd="{mb}/out/bench", **more)


# The commands of mimalloc-bench's own bench.sh, so that figures can be compared with published ones. Those that are short and vary
# most are visited twice a round.
MIMALLOC_BENCH = [
    mb("cfrac", "cfrac 17545186520507317056371138836327483792789528"),
    mb("espresso", "espresso ../../bench/espresso/largest.espresso"),
    mb("barnes", "barnes", stdin="{mb}/bench/barnes/input"),
    mb("larson-sized", "larson-sized 5 8 1000 5000 100 4141 {n}", r"time: ([0-9.]+)"),
    mb("larson", "larson 5 8 1000 5000 100 4141 {n}", r"time: ([0-9.]+)"),
    mb("mstress", "mstress {n} 50 25", times=5, visits=2),
    mb("rptest", "rptest {n} 0 1 2 500 1000 100 8 16000", r"\.\.\.([0-9]+) memory ops", "CPU s an op", True),
    mb("alloc-test1", "alloc-test 1"),
    mb("alloc-testN", "alloc-test {n}"),
    mb("sh6benchN", "sh6bench {n2}"),
    mb("sh8benchN", "sh8bench {n2}"),
    mb("xmalloc-testN", "xmalloc-test -w {n} -t 5 -s 64", r"rtime: ([0-9.]+)"),
    mb("cache-scratch1", "cache-scratch 1 1000 1 2000000 {n}", visits=2),
    mb("cache-scratchN", "cache-scratch {n} 1000 1 2000000 {n}", visits=2),
    mb("cache-thrash1", "cache-thrash 1 1000 1 2000000 {n}", visits=2),
    mb("cache-thrashN", "cache-thrash {n} 1000 1 2000000 {n}", visits=2),
    mb("glibc-simple", "glibc-simple"),
    mb("glibc-thread", "glibc-thread {n}", r"^([0-9.]+)", "2 s an op", True, visits=2),
    mb("malloc-large", "malloc-large"),
    mb("mleak10", "mleak 5", times=5),
    mb("mleak100", "mleak 50"),
]


def repository(work):
    """A git repository of 1,500 commits with loose history, from a fixed seed."""
    import random
    path = os.path.join(work, "repo")
    if os.path.exists(path):
        return
    rnd = random.Random(5)
    files = [[f"line {rnd.randrange(10**6)} of file {f}" for _ in range(300)] for f in range(40)]
    stream = []
    for commit in range(1500):
        f = rnd.randrange(len(files))
        for _ in range(8):
            files[f][rnd.randrange(len(files[f]))] = f"changed {rnd.randrange(10**9)} in {commit}"
        text = "\n".join(files[f]) + "\n"
        stream.append(f"commit refs/heads/main\ncommitter A U Thor <a@example.org> {1700000000 + commit} +0000\n"
                      f"data 0\nM 100644 inline d{f % 5}/f{f}\ndata {len(text)}\n{text}\n")
    subprocess.run(["git", "init", "-q", "-b", "main", path], check=True)
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input="".join(stream).encode(), check=True)


def lines(work):
    """600,000 lines for sort, from a fixed seed."""
    import random
    path = os.path.join(work, "lines")
    if os.path.exists(path):
        return
    rnd = random.Random(6)
    with open(path, "w") as out:
        for n in range(600000):
            out.write(f"{n} {rnd.getrandbits(60):x} {'x' * rnd.randrange(60)}\n")


def puzzle(work):
    """A job shop for z3, from a fixed seed: 30 jobs, each of 15 tasks, one a machine; can all be done in time?"""
    import random
    path = os.path.join(work, "puzzle.smt2")
    if os.path.exists(path):
        return
    rnd = random.Random(1)
    machines = range(15)
    jobs = [[(m, rnd.randrange(1, 30)) for m in rnd.sample(machines, len(machines))] for _ in range(30)]
    on = {m: [(f"t{j}_{k}", time) for j, job in enumerate(jobs) for k, (n, time) in enumerate(job) if n == m] for m in machines}
    end = int(1.2 * max(sum(time for _, time in tasks) for tasks in on.values()))
    with open(path, "w") as out:
        for j, job in enumerate(jobs):
            out.writelines(f"(declare-const t{j}_{k} Int)\n" for k in range(len(job)))
            out.write(f"(assert (>= t{j}_0 0))\n")
            out.writelines(f"(assert (<= (+ t{j}_{k} {time}) {f't{j}_{k + 1}' if k + 1 < len(job) else end}))\n"
                           for k, (_, time) in enumerate(job))
        for tasks in on.values():
            out.writelines(f"(assert (or (<= (+ {a} {d}) {b}) (<= (+ {b} {e}) {a})))\n"
                           for n, (a, d) in enumerate(tasks) for b, e in tasks[:n])
        out.write("(check-sat)\n")


SETUP = {"repository": repository, "lines": lines, "puzzle": puzzle}


def table(mimalloc_bench):
    found = MICRO + TAIL + STARTUP + SCALING + SLEEPERS + HOME + HUGE + MACRO + (MIMALLOC_BENCH if mimalloc_bench else [])
    rows = [row for w in found for row in w.units]
    assert len(set(rows)) == len(rows), "two workloads have the same row"
    return found
