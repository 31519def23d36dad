# SPDX-License-Identifier: MIT
"""The benchmarks measure what they say: the statistics on made-up rounds, the micro programs in small, one real round."""
# timeout: 240

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time

LIB, SRC, BUILD = os.environ["LIBKMM"], os.environ["top_srcdir"], os.environ["top_builddir"]
TMP = os.environ["TMPDIR"]
COMPARE = [sys.executable, os.path.join(SRC, "bench/compare"), "--build", BUILD, "--kmm", LIB]
JSON, PLOT = os.path.join(TMP, "run.json"), os.path.join(TMP, "run.svg")
sys.path.insert(0, os.path.join(SRC, "bench"))
sys.dont_write_bytecode = True

from harness import statistics  # noqa: E402

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

def made_up(rounds, ratios, rows, seed, broken=()):
    """A document as compare writes it. Rounds differ by up to a factor of three, allocators within one by 1 %."""
    rnd = random.Random(seed)
    samples = {row: {a: [] for a in ratios} for row in rows}
    for _ in range(rounds):
        for row in rows:
            weather = math.exp(rnd.random())
            for a, ratio in ratios.items():
                if (row, a) not in broken:
                    value = weather * ratio * math.exp(rnd.gauss(0, 0.01))
                    samples[row][a].append({"figures": {row: value}, "memory_kib": 1024 * value})
    return {"host": {"kernel": "0", "machine": "none", "libc": "none", "cpus": 1, "load": 0}, "rounds": rounds, "failures": [],
            "allocators": {a: {"path": None, "env": {}, "packaged": a == "same"} for a in ratios},
            "workloads": {row: {"group": "macro", "measure": "cpu", "units": {row: "s"}, "series": [], "command": row} for row in rows},
            "samples": samples}


def summary_of(document):
    with open(JSON, "w") as out:
        json.dump(document, out)
    status, out, err = compare("--from-json", JSON, "--json", JSON, "--no-plot")
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


def run_micro(command, **env):
    name, *args = command.split()
    done = subprocess.run([os.path.join(BUILD, "bench/micro", name), *args], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, **env})
    check(done.returncode == 0, f"{command}: status {done.returncode}: {done.stderr[-300:]}")
    return dict(re.findall(r"^(\S+) ([0-9.]+) \S+", done.stdout, re.MULTILINE)), done.stderr


def check_programs():
    for command, names in SMALL.items():
        figures, _ = run_micro(command, LD_PRELOAD=LIB)
        check(list(figures) == names, f"{command} prints {list(figures)}, expected {names}")
    figures, _ = run_micro("sleepers -t 50 -l 8 -w 0")
    check(50 * 8 <= float(figures["live"]) <= 50 * 12, f"50 threads that keep 8 KiB each have {figures['live']} KiB")
    check(50 * 4 <= float(figures["stacks"]) <= 50 * 64, f"50 threads have stacks of {figures['stacks']} KiB")

    # A vector grows by moved pages: none is faulted in twice, and the calls are counted.
    figures, err = run_micro("grow 128", LD_PRELOAD=LIB, KMM_STATS="json")
    moved = re.search(r'"vmalloc_mremap":\s*([0-9]+)', err)
    check(float(figures["faults"]) < 1.1, f"{figures['faults']} faults for each page of a vector that grows")
    check(moved and int(moved[1]) > 0, "no vmalloc_mremap is counted for a vector that grows to 128 MiB")

    for command in ("lifo 0", "random 10 20 8", "larson 600", "xthread 600", "sleepers -k 0"):
        name, *args = command.split()
        done = subprocess.run([os.path.join(BUILD, "bench/micro", name), *args], capture_output=True, text=True, timeout=60, check=False)
        check(done.returncode == 2 and name in done.stderr, f"{command}: status {done.returncode}, {done.stderr!r}")


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
            check(len(samples) == 1 and samples[0]["memory_kib"] > 500 and all(v > 0 for v in samples[0]["figures"].values()),
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
check_round()
check_failures()
sys.exit(failures != 0)
