# SPDX-License-Identifier: MIT
"""Runs one workload under one allocator, and whole interleaved rounds of them.

Programs are started by bench/launch, never by Python itself: the kernel keeps the peak resident size across exec,
so a child of this interpreter would seem to need at least the interpreter's memory. launch is never preloaded; it
puts LD_PRELOAD into the program's environment only.
"""
import os
import random
import re
import signal
import subprocess
import time

from . import statistics, workloads

FIELDS = ("wall_ns", "user_us", "sys_us", "maxrss_kib", "minor_faults", "status")


def libc_path():
    """The C library of this process: preloaded, its malloc wins against one that a program is linked to."""
    with open("/proc/self/maps") as maps:
        return re.search(r"/\S*libc\.so\.6|/\S*libc-[0-9.]+\.so", maps.read()).group(0)


class Allocator:
    """name=PATH[,ENV=VALUE]...; without a path it is the C library's own. packaged: as a Debian package has it."""

    def __init__(self, name, path=None, env=None, packaged=False):
        self.name, self.path, self.env, self.packaged = name, path, env or {}, packaged

    @classmethod
    def parse(cls, text):
        head, *assignments = text.split(",")
        name, sep, path = head.partition("=")
        if not sep or not name or not all("=" in a for a in assignments):
            raise ValueError(f"\"{text}\" is not NAME=PATH[,ENV=VALUE]...")
        if not os.path.isfile(path):
            raise ValueError(f"{name}: there is no library {path}")
        return cls(name, os.path.abspath(path), dict(a.split("=", 1) for a in assignments))

    def launch_options(self, own_allocator):
        path = self.path or (libc_path() if own_allocator else None)
        options = ["-p", path] if path else []
        for item in self.env.items():
            options += ["-e", "=".join(item)]
        return options


class Runner:
    def __init__(self, places, seconds):
        self.places, self.seconds = places, seconds
        self.launch = os.path.join(places["build"], "bench/launch")
        self.result = os.path.join(places["work"], "result")
        self.output = os.path.join(places["work"], "output")
        self.message = ""           # what the last program said on stderr

    def command(self, workload, allocator):
        argv = [self.launch, "-r", self.result, "-o", self.output, "-n", str(workload.times)]
        argv += allocator.launch_options(workload.own_allocator)
        for item in workload.env.items():
            argv += ["-e", "=".join(item)]
        argv += ["-i", workload.stdin.format(**self.places) or "/dev/null", "--"]
        return argv + workload.argv(self.places)

    def read_result(self):
        with open(self.result) as file:
            return dict(zip(FIELDS, map(int, file.read().split())))

    def run(self, workload, allocator):
        """One run: launch's fields, "figures" and "memory" (a number for each row), "trace"; RuntimeError when it failed."""
        for step in workload.setup:
            workloads.SETUP[step](self.places["work"])
        cwd = workload.cwd.format(**self.places) or self.places["work"]
        if workload.client:
            printed = self.served(workload, allocator, cwd)
        else:
            self.launched(workload, allocator, cwd)
            printed = None
        sample = self.read_result()
        if sample["status"]:
            raise RuntimeError(f"{workload.name} under {allocator.name}: exit status {sample['status']} {self.message}".rstrip())
        if printed is None and workload.is_read:
            with open(self.output, errors="replace") as file:
                printed = file.read()
        sample["figures"] = workload.figures(sample, printed)
        sample["memory"] = workload.memory(sample, printed)
        sample["trace"] = workload.trace(printed or "")
        return sample

    def launched(self, workload, allocator, cwd):
        """In a session of its own, so that a program that takes too long is ended with its children."""
        with subprocess.Popen(self.command(workload, allocator), cwd=cwd, start_new_session=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                _, message = process.communicate(timeout=self.seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise RuntimeError(f"{workload.name} under {allocator.name}: no end after {self.seconds} s") from None
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            raise RuntimeError(f"{workload.name} under {allocator.name}: {message[-300:].decode(errors='replace')}")
        self.message = message[-300:].decode(errors='replace')

    def served(self, workload, allocator, cwd):
        """The server alone has the allocator; the client, its own command, is bare. What the client printed."""
        sock = os.path.join(self.places["work"], "sock")
        control = ["redis-cli", "-s", sock]
        server = subprocess.Popen(self.command(workload, allocator), cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                if subprocess.run([*control, "ping"], capture_output=True).stdout == b"PONG\n":
                    break
                time.sleep(0.05)
            done = subprocess.run(workloads.split(workload.client, self.places), capture_output=True, timeout=self.seconds)
        finally:
            subprocess.run([*control, "shutdown", "nosave"], capture_output=True)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise RuntimeError(f"{workload.name} under {allocator.name}: the server did not end") from None
        self.message = done.stderr[-300:].decode(errors="replace")
        return done.stdout.decode(errors="replace").replace("\r", "\n")

    def is_loaded(self, allocator):
        """The library really gets into a process."""
        if not allocator.path:
            return True
        probe = workloads.Workload("probe", "", "/bin/cat /proc/self/maps")
        subprocess.run(self.command(probe, allocator), check=True, stderr=subprocess.DEVNULL)
        with open(self.output) as maps:
            return os.path.realpath(allocator.path) in maps.read()


def middle(visits):
    """One sample from those of several visits: the median of each number in it, and the first one's trace."""
    def of(key, value):
        if isinstance(value, list):
            return value
        values = [v[key] for v in visits]
        return middle(values) if isinstance(value, dict) else statistics.median(values)

    return {key: of(key, value) for key, value in visits[0].items()}


def visit(runner, workload, allocators, rnd, failures, progress):
    """{allocator: sample} of one workload in one round, the allocators in a fresh random order."""
    visits = {a.name: [] for a in allocators}
    for allocator in (a for _ in range(workload.visits) for a in rnd.sample(allocators, len(allocators))):
        key = (workload.name, allocator.name)
        if key in failures:
            continue
        try:
            visits[allocator.name].append(runner.run(workload, allocator))
        except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            failures[key] = str(error)
            progress(f"FAILED {error}")
    return {name: middle(found) for name, found in visits.items() if (workload.name, name) not in failures}


def rounds(runner, table, allocators, count, seed, progress):
    """{workload: {allocator: [sample, ...]}}, failures, and how many rounds there were: every round visits everything.

    A program that fails under an allocator is reported, counted, and left out for that allocator from then on. An
    interrupt (^C) ends the measurement after the last whole round.
    """
    rnd = random.Random(seed)
    samples = {w.name: {a.name: [] for a in allocators} for w in table}
    failures = {}
    for turn in range(count):
        found = {}
        try:
            for workload in table:
                if not workload.rounds or turn < workload.rounds:
                    found[workload.name] = visit(runner, workload, allocators, rnd, failures, progress)
                    progress(f"round {turn + 1}/{count} {workload.name}")
        except KeyboardInterrupt:
            if not turn:
                raise
            progress(f"interrupted in round {turn + 1}, which does not count")
            return samples, failures, turn
        for workload, by_allocator in found.items():
            for name, sample in by_allocator.items():
                samples[workload][name].append(sample)
    return samples, failures, count
