# SPDX-License-Identifier: MIT
"""KMM_STATS: what is printed where, as text and as JSON, and what bad values do."""
# modes: auto lock

import json
import os
import re
import subprocess
import sys

LIB = os.environ["LIBKMM"]
SRC = os.environ["top_srcdir"]
TMP = os.environ.get("TMPDIR", "/tmp")
SECTIONS = ["layout", "meminfo", "buddyinfo", "pagetypeinfo", "slabinfo", "vmallocinfo", "zoneinfo", "vmstat", "memcg", "mm"]
# The big block is never freed: what Python holds itself is gone by the time of the report.
WORK = "import ctypes; x = [bytes(i) for i in range(3000)]; ctypes.CDLL(None).malloc(50 << 20)"

failures = 0


def check(condition, what):
    global failures
    if not condition:
        print("stats_json: " + what)
        failures += 1


def run(value, argv, **kwargs):
    """Runs argv on libkmm with KMM_STATS=value."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("KMM_") or k == "KMM_PERCPU"}
    env["LD_PRELOAD"] = LIB
    if value is not None:
        env["KMM_STATS"] = value
    kwargs.setdefault("stderr", subprocess.PIPE)
    return subprocess.run(argv, env=env, stdout=subprocess.PIPE, timeout=60, check=False, **kwargs)


def python(code):
    return [sys.executable, "-c", code]


def parse(text, what):
    try:
        # A key twice in one object is valid JSON by the letter, and a bug.
        def unique(pairs):
            keys = [k for k, _ in pairs]
            check(len(keys) == len(set(keys)), what + ": a key occurs twice: " + str(keys))
            return dict(pairs)
        return json.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        check(False, "%s: not JSON: %s" % (what, error))
        return {}


def test_json():
    done = run("json", python(WORK))
    check(done.returncode == 0, "json: exit status %d" % done.returncode)
    stats = parse(done.stderr, "json")
    check(list(stats) == SECTIONS, "json: sections are " + str(list(stats)))
    if list(stats) != SECTIONS:
        return
    info = stats["meminfo"]
    for key in ("MemTotal", "MemFree", "Slab", "SlabInUse", "SheafCached", "KmmMetadata", "VmallocTotal", "VmallocUsed",
                "VmallocLazy", "Large", "Reported"):
        check(isinstance(info.get(key), int), "meminfo: %s is %r" % (key, info.get(key)))
    if os.path.exists("/proc/self/smaps_rollup"):
        check(info.get("Rss", 0) > 1000 and "AnonHugePages" in info, "meminfo: no Rss or AnonHugePages")
    check(0 < info["Slab"] <= info["MemTotal"], "meminfo: Slab %d" % info["Slab"])
    check(0 < info["SlabInUse"] <= info["Slab"], "meminfo: SlabInUse %d" % info["SlabInUse"])
    check(info["VmallocUsed"] >= 50 << 10, "meminfo: VmallocUsed %d" % info["VmallocUsed"])
    parts = info["MemFree"] + info["PcpFree"] + info["Slab"] + info["Large"]
    check(abs(parts - info["MemManaged"]) <= info["MemManaged"] // 50, "meminfo: parts %d, whole %d" % (parts, info["MemManaged"]))

    check_tables(stats)
    with open(SRC + "/include/base/vmstat.def", encoding="ascii") as f:
        counters = re.findall(r"^VMSTAT\((\w+),", f.read(), re.M)
    check(list(stats["vmstat"]) == counters, "vmstat: not the counters of vmstat.def")
    check(stats["vmstat"]["slab_alloc"] > 0, "vmstat: no slab was ever made")


def check_tables(stats):
    orders = ["order%d" % n for n in range(15)]
    check(len(stats["layout"]["regions"]) > 3, "layout: regions")
    for zone in stats["buddyinfo"]["buddyinfo"]:
        check(list(zone) == ["zone"] + orders, "buddyinfo: " + str(list(zone)))
    free = stats["pagetypeinfo"]["free"]
    for zone in stats["buddyinfo"]["buddyinfo"]:
        check(sum(1 for row in free if row["zone"] == zone["zone"]) == 3, "pagetypeinfo: three types a zone")
    check(len(stats["pagetypeinfo"]["pageblocks"]) == len(stats["buddyinfo"]["buddyinfo"]), "pagetypeinfo: pageblocks")

    slabs = stats["slabinfo"]["slabinfo"]
    check(len(slabs) > 5, "slabinfo: %d rows" % len(slabs))
    for row in slabs:
        check(row["name"] == "kmalloc-%d" % row["objsize"], "slabinfo: " + row["name"])
        check(row["num_objs"] == row["num_slabs"] * row["objperslab"], "slabinfo: %s: objects and slabs" % row["name"])
        check(row["active_objs"] + row["in_sheaves"] + row["in_barns"] <= row["num_objs"], "slabinfo: %s: sum" % row["name"])
        check(row["objsize"] * row["objperslab"] <= row["pagesperslab"] * 4096, "slabinfo: %s: pages" % row["name"])

    areas = stats["vmallocinfo"]["areas"]
    check(any(row["requested"] >= 50 << 20 for row in areas), "vmallocinfo: the 50 MiB block")
    check(len(areas) == stats["vmallocinfo"]["Areas"], "vmallocinfo: number of areas")
    for row in areas:
        check(int(row["start"], 16) < int(row["end"], 16), "vmallocinfo: a range")
    for row in stats["zoneinfo"]["zones"]:
        check(row["free"] <= row["managed"] <= row["present"] <= row["spanned"], "zoneinfo: " + str(row))
    check(len(stats["zoneinfo"]["pagesets"]) == stats["layout"]["PerCpuAreas"], "zoneinfo: pagesets")

    mm = stats["mm"]
    check(len(mm["tasks"]) == mm["nr_tasks"] >= 1, "mm: tasks")
    names = {row["kind"] for row in mm["vmas"]}
    check(len(mm["vmas"]) > 10 and "stack" in names, "mm: vmas " + str(names))
    ends = [(int(row["start"], 16), int(row["end"], 16)) for row in mm["vmas"]]
    check(all(a[1] <= b[0] for a, b in zip(ends, ends[1:])), "mm: vmas overlap or are out of order")


def headings(text):
    return re.findall(r"^\[(\w+)\]$", text.decode(), re.M)


def test_text():
    for value in ("1", "text"):
        done = run(value, python(WORK))
        check(headings(done.stderr) == SECTIONS, "%s: sections are %s" % (value, headings(done.stderr)))
        for line in (rb"^MemTotal: +\d+ kB$", rb"^kmalloc-64 ", rb"^slab_alloc: +\d+$"):
            check(re.search(line, done.stderr, re.M) is not None, "%s: no line %r" % (value, line))
        check(done.stdout == b"", "text: something on stdout")
    done = run(None, python(WORK))
    check(done.stderr == b"", "without KMM_STATS: " + repr(done.stderr[:200]))


def test_paths():
    # Each process writes its own file, a forked child too.
    done = run("json:" + TMP + "/stats.%p", python("import os; pid = os.fork(); pid and os.waitpid(pid, 0); print(os.getpid(), flush=True)"))
    check(done.stderr == b"", "json:PATH: something on stderr")
    pids = done.stdout.split()
    check(len(pids) == 2, "two processes")
    for pid in pids:
        with open(TMP + "/stats." + pid.decode(), encoding="utf-8") as f:
            stats = parse(f.read(), "json:PATH")
        check(list(stats) == SECTIONS and stats["layout"]["Pid"] == int(pid), "json:PATH of pid " + pid.decode())

    path = TMP + "/a 100%"
    run("text:" + path.replace("%", "%%"), ["/bin/true"])
    with open(path, "rb") as f:
        check(headings(f.read()) == SECTIONS, "text:PATH")

    done = run("text:/nowhere/stats", python("raise SystemExit(7)"))
    check(done.returncode == 7, "unwritable PATH: exit status %d" % done.returncode)
    check(len(done.stderr.splitlines()) == 1 and b"/nowhere/stats" in done.stderr, "unwritable PATH: %r" % done.stderr)


def test_bad_values():
    for value in ("yes", "2", "JSON", "json:", "text:", "jsonx", "text,json", "1:file", ""):
        done = run(value, ["/bin/sh", "-c", "exit 5"])
        lines = done.stderr.decode().splitlines()
        check(done.returncode == 5, "KMM_STATS=%s: exit status %d" % (value, done.returncode))
        check(len(lines) == 1, "KMM_STATS=%s: %d lines: %r" % (value, len(lines), lines))
        check(lines and "KMM_STATS=" + value in lines[0] and "text:PATH" in lines[0],
              "KMM_STATS=%s: the warning is %r" % (value, lines))


def test_closed_stderr():
    # Programs that close stderr themselves before they end.
    done = run("1", ["/bin/ls", "/"])
    check(headings(done.stderr) == SECTIONS, "ls closes stderr: %r" % done.stderr[:100])

    # No stderr at all.
    done = run("1", ["/bin/sh", "-c", "exec 2>&-; exec /bin/sh -c 'exit 4'"])
    check(done.returncode == 4, "no stderr: exit status %d" % done.returncode)

    # A file that took over number 2, and the numbers of everything that was closed: not one byte into it.
    victim = TMP + "/victim"
    code = ("import os; os.closerange(2, 1024)\n"
            "fds = [os.open(%r, os.O_RDWR | os.O_CREAT) for _ in range(600)]\n"
            "assert fds[0] == 2" % victim)
    done = run("1", python(code))
    check(done.returncode == 0, "files opened in place of stderr: exit status %d" % done.returncode)
    check(os.path.getsize(victim) == 0, "statistics went into a file of the program")

    # A reader that is gone must not kill the program.
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run("1", ["/bin/sh", "-c", "exit 3"], stderr=write_end)
    os.close(write_end)
    check(done.returncode == 3, "nobody reads: exit status %d" % done.returncode)


def test_threads():
    # Threads that go on allocating while the main thread ends.
    code = ("import threading\n"
            "def f():\n"
            "    while True: x = [bytes(i) for i in range(500)]\n"
            "for _ in range(4): threading.Thread(target=f, daemon=True).start()\n"
            "import time; time.sleep(0.3)")
    done = run("json", python(code))
    check(done.returncode == 0, "threads: exit status %d" % done.returncode)
    check(list(parse(done.stderr, "threads")) == SECTIONS, "threads: sections")


test_json()
test_text()
test_paths()
test_bad_values()
test_closed_stderr()
test_threads()
print("stats_json: %s" % ("ok" if failures == 0 else "%d failures" % failures))
sys.exit(failures != 0)
