# SPDX-License-Identifier: MIT
"""The workloads of bench/compare, one table for each group.

A workload is one command that is run under every allocator. Its time is
  cpu      user + system time of the program and its children: for a fixed amount of work,
  wall     elapsed time: where waiting is the point,
  printed  a figure that the program prints, lower is better (for a fixed duration: the inverse of its throughput).
In a command {build} is the folder of the built micro programs, {src} the sources, {work} a folder for the run's
own files, {mb} the mimalloc-bench folder, {n} the number of CPUs.
"""
import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field


@dataclass
class Workload:
    name: str
    group: str
    command: str
    metric: str = "cpu"
    pattern: str = ""           # for printed: a regular expression whose first group is the figure
    inverse: bool = False       # the figure is a throughput: take its inverse
    unit: str = ""              # of the printed figure
    times: int = 1              # runs a round, of which the median is taken
    needs: tuple = ()           # programs or files without which it is left out
    setup: tuple = ()           # names of functions below, each makes one input in {work}
    env: dict = field(default_factory=dict)
    stdin: str = ""
    cwd: str = ""
    own_allocator: bool = False  # links an allocator of its own: for the reference libc itself is preloaded

    def argv(self, places):
        return [part.format(**places) for part in shlex.split(self.command)]

    def missing(self, places):
        """The first thing that this workload lacks here, or None."""
        for need in (*self.needs, self.argv(places)[0]):
            path = need.format(**places)
            if not (os.path.exists(path) if "/" in path else in_path(path)):
                return path
        return None

    def figure(self, output):
        """The printed figure in a program's output; ValueError when it is not there."""
        match = re.search(self.pattern, output, re.MULTILINE)
        if not match:
            raise ValueError(f"{self.name}: no figure in its output: {output[-200:]!r}")
        value = float(match.group(1))
        return 1 / value if self.inverse else value


def in_path(program):
    return any(os.access(os.path.join(d, program), os.X_OK) for d in os.environ.get("PATH", "").split(":"))


def micro(name, command, unit="ns/pair", label=None):
    return Workload(name, "micro", "{build}/bench/micro/" + command, "printed",
                    rf"^{re.escape(label or command.split()[0])} ([0-9.]+)", unit=unit)


MICRO = [
    micro("lifo", "lifo 20000000 3"),
    micro("fifo", "fifo 10000 1000"),
    micro("random-small", "random 4096 8 512 10000000"),
    micro("random-mid", "random 65536 16 4096 3000000"),
    micro("random-large", "random 256 8192 262144 300000"),
    micro("xthread", "xthread 1 4000000"),
    micro("xthread-8", "xthread 8 4000000"),
    micro("tail-p99", "tail 1000000 2", "ns", "p99"),
    micro("tail-p99.9", "tail 1000000 2", "ns", "p99.9"),
    micro("tail-p99.99", "tail 1000000 2", "ns", "p99.99"),
    Workload("start-true", "micro", "/bin/true", "wall", times=200),
    Workload("start-git", "micro", "git --version", "wall", times=100),
    Workload("start-python", "micro", "/usr/bin/python3 -c pass", "wall", times=20),
]

MACRO = [
    Workload("python", "macro", "/usr/bin/python3 {src}/tests/preload/threads.py 60"),
    Workload("python-malloc", "macro", "/usr/bin/python3 {src}/bench/macro/objects.py 12",
             env={"PYTHONMALLOC": "malloc"}),
    Workload("sqlite", "macro", "sqlite3 -batch :memory:", stdin="{src}/bench/macro/rows.sql"),
    Workload("gcc", "macro", "g++ -std=c++17 -O1 -c {src}/tests/preload/templates.cc -o {work}/templates.o"),
    Workload("perl", "macro", "perl {src}/tests/preload/hashes.pl 1"),
    Workload("git", "macro", "git -C {work}/repo -c pack.threads={n} repack -q -a -d -f --window=30",
             setup=("repository",)),
    Workload("sort", "macro", "sort --parallel={n} -S 200M -k2,2 {work}/lines -o {work}/sorted", setup=("lines",)),
    Workload("node", "macro", "node {src}/tests/preload/workers.js 30"),
    Workload("redis", "macro", "redis-server --port 0 --unixsocket {work}/sock --save '' --appendonly no", "printed",
             r"([0-9.]+) requests per second", inverse=True, unit="s a request", needs=("redis-benchmark", "redis-cli"), own_allocator=True),
]


def mb(name, command, metric="cpu", pattern="", **more):
    return Workload(name, "mimalloc-bench", "{mb}/out/bench/" + command, metric, pattern, cwd="{mb}/out/bench", **more)


# The commands of mimalloc-bench's own bench.sh, so that figures can be compared with published ones.
MIMALLOC_BENCH = [
    mb("cfrac", "cfrac 17545186520507317056371138836327483792789528"),
    mb("espresso", "espresso ../../bench/espresso/largest.espresso"),
    mb("barnes", "barnes", stdin="{mb}/bench/barnes/input"),
    mb("larson-sized", "larson-sized 5 8 1000 5000 100 4141 {n}", "printed", r"time: ([0-9.]+)"),
    mb("larson", "larson 5 8 1000 5000 100 4141 {n}", "printed", r"time: ([0-9.]+)"),
    mb("mstress", "mstress {n} 50 25"),
    mb("rptest", "rptest {n} 0 1 2 500 1000 100 8 16000", "printed", r"\.\.\.([0-9]+) memory ops", inverse=True),
    mb("alloc-test1", "alloc-test 1"),
    mb("alloc-testN", "alloc-test {n}"),
    mb("sh6benchN", "sh6bench {n2}"),
    mb("sh8benchN", "sh8bench {n2}"),
    mb("xmalloc-testN", "xmalloc-test -w {n} -t 5 -s 64", "printed", r"rtime: ([0-9.]+)"),
    mb("cache-scratch1", "cache-scratch 1 1000 1 2000000 {n}"),
    mb("cache-scratchN", "cache-scratch {n} 1000 1 2000000 {n}"),
    mb("cache-thrash1", "cache-thrash 1 1000 1 2000000 {n}"),
    mb("cache-thrashN", "cache-thrash {n} 1000 1 2000000 {n}"),
    mb("glibc-simple", "glibc-simple"),
    mb("glibc-thread", "glibc-thread {n}", "printed", r"^([0-9.]+)", inverse=True),
    mb("malloc-large", "malloc-large"),
    mb("mleak10", "mleak 5"),
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


SETUP = {"repository": repository, "lines": lines}


def table(mimalloc_bench):
    return MICRO + MACRO + (MIMALLOC_BENCH if mimalloc_bench else [])
