# SPDX-License-Identifier: MIT
"""The benchmarks measure what they say: the statistics on made-up rounds, the micro programs in small, one real round."""
# timeout: 240

import dataclasses
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

LIB, SRC, BUILD = os.environ["LIBKMM"], os.environ["top_srcdir"], os.environ["top_builddir"]
TMP = os.environ["TMPDIR"]
COMPARE = [sys.executable, os.path.join(SRC, "bench/compare"), "--build", BUILD, "--kmm", LIB]
JSON, PLOT = os.path.join(TMP, "run.json"), os.path.join(TMP, "run.svg")
sys.path.insert(0, os.path.join(SRC, "bench"))
sys.dont_write_bytecode = True

from harness import measure, statistics, workloads  # noqa: E402

failures = 0


def check(condition, what):
    global failures
    if not condition:
        print("compare: " + what)
        failures += 1


def near(a, b, part):
    return abs(math.log(a / b)) < part


def compare(*args):
    done = subprocess.run([*COMPARE, *args], capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout, done.stderr


# --- statistics ---

def made_up(rounds, ratios, rows, seed, broken=(), trace=()):
    """A document as compare writes it. Rounds differ by up to a factor of three, allocators within one by 1 %."""
    rnd = random.Random(seed)
    samples = {row: {a: [] for a in ratios} for row in rows}
    for _ in range(rounds):
        for row in rows:
            weather = math.exp(rnd.random())
            for a, ratio in ratios.items():
                if (row, a) not in broken:
                    value = weather * ratio * math.exp(rnd.gauss(0, 0.01))
                    samples[row][a].append({"figures": {row: value}, "memory": {row: value}, "trace": trace})
    return {"host": {"kernel": "0", "machine": "none", "libc": "none", "cpus": 1, "load": 0}, "rounds": rounds, "failures": [],
            "allocators": {a: {"path": a.removesuffix("-off"), "env": {}, "packaged": a == "same"} for a in ratios},
            "workloads": {row: {"group": "macro", "measure": "cpu", "units": {row: "s"}, "memory_units": {row: "MiB"}, "series": [], "command": row} for row in rows},
            "samples": samples}


def summary_of(document, *args):
    with open(JSON, "w") as out:
        json.dump(document, out)
    status, out, err = compare("--from-json", JSON, "--json", JSON, *(args or ["--no-plot"]))
    check(status == 0, f"--from-json: status {status}: {err}")
    with open(JSON) as file:
        return json.load(file)["summary"], out


def check_statistics():
    ratios = {"glibc": 1.0, "kmm": 0.8, "same": 0.8, "slower": 0.9, "faster": 0.7}
    summary, out = summary_of(made_up(9, ratios, ["a", "b", "c"], 1, {("c", "slower")}))
    for kind in ("time", "memory"):
        for row in ("a", "mean of macro"):
            e = summary[kind][row]["kmm"]
            check(near(e["ratio"], 0.8, 0.02) and e["low"] <= e["ratio"] <= e["high"] < 0.83, f"{kind} {row}: {e}, expected 0.8")
        check(summary[kind]["c"]["slower"] is None, f"{kind}: a program that failed has a ratio")
        verdicts = {a: e["verdict"] for a, e in summary["against"][kind]["mean of macro"].items()}
        check(verdicts == {"glibc": "below", "same": "equal", "slower": "below", "faster": "above"}, f"{kind}: {verdicts}")
    for row, goal in summary["goals"].items():
        check((goal["peer"], goal["verdict"]) == ("faster", "over") and near(goal["ratio"], 8 / 7, 0.02), f"goal of {row}: {goal}")
    check(near(summary["summits"]["mean of macro"]["ratio"], 8 / 7, 0.02), f"summit: {summary['summits']}")
    check("time over the ceiling: a 1.1" in out and "too much memory: none" in out, "the lists at the end: " + out[-400:])

    summary, out = summary_of(made_up(4, {**ratios, "kmm": 1.4}, ["a", "b"], 2))
    check({g["verdict"] for g in summary["goals"].values()} == {"perhaps over"}, "four rounds are enough for a verdict")
    check({e["verdict"] for e in summary["against"]["time"]["mean of macro"].values()} == {"unknown"}, "four rounds give a verdict")
    check(set(summary["large"]) == {"a", "b"}, f"1.4 of glibc's memory is not too much: {summary['large']}")

    summary, _ = summary_of(made_up(9, {**ratios, "kmm-off": 0.5}, ["a", "b"], 4))
    check({g["peer"] for g in summary["goals"].values()} == {"faster"} and near(summary["summits"]["mean of macro"]["ratio"], 8 / 7, 0.02),
          f"libkmm is its own rival: {summary['goals']}")
    check(near(summary["against"]["time"]["mean of macro"]["kmm-off"]["ratio"], 8 / 5, 0.02), "libkmm with other settings is not compared")

    # An interval that is made for 95 % holds the truth in nearly that share of 60 runs.
    rnd = random.Random(3)
    runs = [statistics.estimate([[rnd.gauss(0, 0.1) for _ in range(9)] for _ in range(3)]) for _ in range(60)]
    held = sum(e.low <= 1 <= e.high for e in runs)
    check(50 <= held < 60, f"{held} of 60 intervals hold the true ratio")


# --- the programs ---

SMALL = {
    "lifo 4000 1": ["lifo"],
    "fifo 100 10": ["fifo"],
    "random 64 8 512 1000": ["random"],
    "delete 4000 1": ["delete", "delete-sized"],
    "grow 128": ["grow", "grow-realloc", "faults"],
    "xthread 4 16384 16 256 8": ["xthread"],
    "larson 8 80000": ["larson"],
    "tail 1000 2": ["p50", "p99", "p99.9", "p99.99"],
    "sleepers -t 20 -k 64 -w 0": ["live", "stacks", "freed", "over"],
    "sleepers -t 20 -k 64 -l 0 -b -w 0": ["live", "stacks", "freed", "over"],
}


def run_program(command, **env):
    """Its figures, without the lines of a story, and what it said on stderr and stdout."""
    name, *args = command.split()
    done = subprocess.run([os.path.join(BUILD, "bench", name if "/" in name else f"micro/{name}"), *args], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, **env})
    check(done.returncode == 0, f"{command}: status {done.returncode}: {done.stderr[-300:]}")
    return dict(re.findall(r"^(?!at )(\S+) ([0-9.]+) \S+", done.stdout, re.MULTILINE)), done.stderr, done.stdout


def check_programs():
    for command, names in SMALL.items():
        figures, *_ = run_program(command, LD_PRELOAD=LIB)
        check(list(figures) == names, f"{command} prints {list(figures)}, expected {names}")
    figures, *_ = run_program("sleepers -t 50 -l 8 -w 0")
    check(50 * 8 <= float(figures["live"]) <= 50 * 12, f"50 threads that keep 8 KiB each have {figures['live']} KiB")
    check(50 * 4 <= float(figures["stacks"]) <= 50 * 64, f"50 threads have stacks of {figures['stacks']} KiB")

    # A vector grows by moved pages: none is faulted in twice, and the calls are counted.
    figures, err, _ = run_program("grow 128", LD_PRELOAD=LIB, KMM_STATS="json")
    moved = re.search(r'"vmalloc_mremap":\s*([0-9]+)', err)
    check(float(figures["faults"]) < 1.1, f"{figures['faults']} faults for each page of a vector that grows")
    check(moved and int(moved[1]) > 0, "no vmalloc_mremap is counted for a vector that grows to 128 MiB")

    for command in ("lifo 0", "random 10 20 8", "larson 600", "xthread 600", "sleepers -k 0", "macro/ratchet 0", "macro/idle x", "macro/day -3"):
        name, *args = command.split()
        path = os.path.join(BUILD, "bench", name if "/" in name else f"micro/{name}")
        done = subprocess.run([path, *args], capture_output=True, text=True, timeout=60, check=False)
        check(done.returncode == 2 and os.path.basename(name) in done.stderr, f"{command}: status {done.returncode}, {done.stderr!r}")


def check_story(what, story, last_live):
    """story: [[seconds, resident, live]] of a program that ends with so many MiB alive, and had more."""
    times = [seconds for seconds, _, _ in story]
    check(len(story) >= 5 and times == sorted(times), f"{what}: a story of {len(story)} points at {times[:9]}")
    check(all(resident > 0.1 for _, resident, _ in story) and near(story[-1][2] + 0.01, last_live + 0.01, 0.2),
          f"{what}: ends at {story[-1:]}, expected {last_live} MiB alive")


def check_figures():
    for inverse, expected in ((False, 4), (True, 0.25)):
        value = workloads.mb("x", "x", r"n ([0-9]+)", inverse=inverse).printed[0].read("n 4")
        check(value == expected, f"4 is read as {value}, expected {expected}")
    check(workloads.kib("x", "resident").read("resident 2048 KiB") == 2, "2048 KiB are not read as 2 MiB")


def check_home():
    """The programs of memory that goes home, in small; with libkmm and with the C library."""
    reader = workloads.Workload("story", "", "", traced=True)
    for env in ({"LD_PRELOAD": LIB}, {}):
        figures, _, out = run_program("macro/ratchet 8 1", **env)
        check(list(figures) == ["ratchet-1", "ratchet-2"] and all(1 < float(v) < 40 for v in figures.values()), f"ratchet: {figures}")
        check_story("ratchet", reader.trace(out), 0.8)
        figures, _, out = run_program("macro/idle 16 1", **env)
        check(list(figures) == ["peak", "below", "resident"] and 16 << 10 < float(figures["peak"]) < 40 << 10
              and float(figures["below"]) < 1 and 100 < float(figures["resident"]) < 2 * float(figures["peak"]), f"idle: {figures}")
        check_story("idle", reader.trace(out), 0)
        figures, _, out = run_program("macro/day 4 1", **env)
        check(list(figures) == ["day"] and 1 < float(figures["day"]) < 20, f"day: {figures}")
        check_story("day", reader.trace(out), 1.04)
        loudest, quietest = (f(live for _, _, live in reader.trace(out)) for f in (max, min))
        check(3 * quietest < loudest, f"day: {quietest} MiB alive by night, {loudest} at noon")
    check_served()


def check_served():
    """The server is measured and the client runs bare: the redis row, with few keys."""
    if not shutil.which("redis-server") or not shutil.which("redis-cli"):
        return
    row = next(w for w in workloads.HOME if w.name == "redis-lru")
    small = dataclasses.replace(row, client=row.client.replace("700000 10", "7000 1"))
    check(small.client != row.client, f"the client's arguments are others now: {row.client}")
    with tempfile.TemporaryDirectory(dir=TMP) as work:
        runner = measure.Runner({"build": BUILD, "src": SRC, "work": work, "n": 1, "n2": 2, "mb": "/nonexistent"}, 60)
        sample = runner.run(small, measure.Allocator("kmm", LIB))
    check(sample["figures"]["redis-lru-inserts"] < 30 and 2 < sample["memory"]["redis-lru"] < 60, f"redis-lru: {sample}")
    check_story("redis-lru", sample["trace"], sample["trace"][-2][2])
    check(sample["trace"][-1][2] > sample["trace"][0][2] + 2, f"redis-lru: 7,000 keys leave no trace: {sample['trace']}")


def check_plot_of_stories():
    trace = [[0.0, 5.0, 4.0], [1.0, 8.0, 7.0], [2.0, 6.0, 1.0]]
    summary_of(made_up(2, {"glibc": 1.0, "kmm": 0.8, "same": 0.8}, ["a"], 5, {("a", "same")}, trace), "--plot", PLOT)
    if shutil.which("gnuplot"):
        with open(PLOT.replace(".svg", "-a.svg")) as file:
            svg = file.read()
        check(all(text in svg for text in ("a: resident MiB over the seconds", ">glibc<", ">kmm<", ">live<")) and ">same<" not in svg,
              "the plot over time does not show what it should")


def check_reclaim_off():
    status, out, _ = compare("--list", "--reclaim-off", "--only", "home")
    check(status == 0 and re.search(rf"^  kmm-off +{LIB}$", out, re.MULTILINE), f"--reclaim-off: status {status}, {out}")


def check_interrupt():
    """^C ends the measurement: whole rounds count, of the one that was interrupted nothing does."""
    class Runner:
        left = 5

        def run(self, workload, allocator):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return {"cpu": self.left}

    table = [workloads.Workload(name, "x", "x") for name in ("a", "b")]
    samples, failures, done = measure.rounds(Runner(), table, [measure.Allocator("kmm")], 9, 1, lambda line: None)
    check((done, failures) == (2, {}) and all(len(by["kmm"]) == 2 for by in samples.values()), f"interrupted: {done} rounds, {samples}")


# --- one real round ---

def check_round():
    empty = os.path.join(BUILD, "tests/preload/empty.so")
    status, out, err = compare("--rounds", "1", "--only", "^(fifo|tail|start-true|larson-[28])$", "--allocators", "^(kmm|none)$",
                               "--json", JSON, "--plot", PLOT, f"none={empty},SOME=thing")
    check(status == 0, f"a round ends with status {status}: {err[-500:]}")
    with open(JSON) as file:
        run = json.load(file)
    check(list(run["allocators"]) == ["glibc", "kmm", "none"], f"allocators: {list(run['allocators'])}")
    check(run["allocators"]["none"]["env"] == {"SOME": "thing"}, f"settings of a peer: {run['allocators']['none']}")
    rows = {"fifo", "tail-p50", "tail-p99", "tail-p99.9", "tail-p99.99", "start-true", "larson-2", "larson-8", "mean of scaling"}
    check(set(run["summary"]["time"]) == rows, f"rows: {set(run['summary']['time']) ^ rows}")
    check(set(run["summary"]["memory"]) == {"fifo", "tail", "start-true", "larson-2", "larson-8", "mean of scaling"}, "rows of the memory")
    for name, by in run["samples"].items():
        for a, samples in by.items():
            check(len(samples) == 1 and all(v > 0.5 for v in samples[0]["memory"].values()) and all(v > 0 for v in samples[0]["figures"].values()),
                  f"{name} under {a}: {samples}")
    larson = run["summary"]["curves"]["larson"]
    check(set(larson) == {"2", "8"} and larson["8"]["kmm"]["throughput"]["ratio"] > 0.1 and larson["8"]["kmm"]["memory"]["ratio"] > 1,
          f"curves: {larson}")
    check("start-true" not in run["summary"]["goals"], "a peer that is no Debian package counts for the start-up")
    if shutil.which("gnuplot"):
        curves = PLOT.replace(".svg", "-scaling.svg")
        for path, text in ((PLOT, "geometric means: time, ratio to glibc"), (curves, "larson: peak resident MiB")):
            with open(path) as file:
                svg = file.read()
            check(svg.startswith("<?xml") and text in svg and svg.rstrip().endswith("</svg>"), f"{path} is not the plot")


def check_failures():
    status, _, err = compare("--rounds", "1", "--only", "^sleepers-freed$", "--allocators", "^kmm$", "--seconds", "1", "--no-plot")
    check(status == 1 and "no end after 1 s" in err, f"a program that hangs: status {status}, {err[-300:]}")
    running, tries = "?", 100
    while running and tries:
        time.sleep(0.1)     # a killed process takes a moment to go
        tries -= 1
        running = subprocess.run(["pgrep", "-f", f"^{BUILD}/bench/micro/sleepers"], capture_output=True, text=True, check=False).stdout
    check(not running, f"it is still running: {running}")
    for bad in ("nothing", "x=/nonexistent.so", f"x={LIB},y"):
        status, _, err = compare("--list", bad)
        check(status != 0 and "Traceback" not in err and bad.split("=")[0] in err, f"\"{bad}\": status {status}, {err[-300:]}")


check_statistics()
check_programs()
check_figures()
check_home()
check_plot_of_stories()
check_reclaim_off()
check_interrupt()
check_round()
check_failures()
sys.exit(failures != 0)
