#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""counts.py LIBRARY RSEQ_OUT LOCK_OUT - what icount.c cost, from callgrind's files, against the ceilings below.

The counts are repeatable, so the ceilings are tight: a few instructions above what gcc 12 makes on the fast path, a
fifth to a quarter for what is amortised. Lower them when the figure falls. Everything has a floor as well, and every
class and phase must be there, so that a run that measured nothing cannot pass.

A section begins at its start, or, once its code has its constants (lib/arch/x86_64/runtime_const.c), with the next instruction.

That the pairs really went through the critical sections is read from the library: __rseq_cs holds the start and
the length of each. In the rseq run the first instruction of malloc's and of free's section, and the one behind their
commit, ran exactly once a call, and no function but malloc and free ran at all. In the lock run sections were
entered, none was committed, and lock_pop_chain and lock_push served.
"""
import collections
import re
import struct
import subprocess
import sys

CLASSES = 96
# Instructions a call, up to a size: malloc and free of a pair, malloc of a fill, free of a drain.
CEILINGS = [
    # size          rseq               the lock mode
    (256, (18, 24, 100, 105), (210, 240, 300, 320)),
    (1 << 10, (18, 24, 123, 132), (210, 240, 327, 365)),
    (4 << 10, (32, 24, 415, 345), (235, 240, 730, 790)),
    (16 << 10, (32, 24, 1035, 890), (235, 240, 1540, 1590)),
    (64 << 10, (32, 24, 2070, 1620), (235, 240, 2680, 2440)),
    (256 << 10, (32, 24, 2730, 1920), (235, 240, 3480, 3150)),
]
WITHIN = 2
FLOOR_MALLOC, FLOOR_FREE = 12, 16  # no way through either is shorter

Part = collections.namedtuple("Part", "calls functions addresses called inclusive")
wrong = []


def read_parts(path):
    """{(phase, size): Part}; own cost by function and by address, calls and cost with callees by function."""
    parts, key, in_call = {}, None, False
    for line in open(path):
        if m := re.match(r"desc: Trigger: Client Request: (\w+) (\d+) (\d+)$", line):
            key = m[1], int(m[2])
            part = parts[key] = Part(int(m[3]), *(collections.Counter() for _ in range(4)))
        elif line.startswith("part:"):
            key = None
        elif key is None:
            continue
        elif m := re.match(r"fn=(.*)", line):
            function = m[1]
        elif m := re.match(r"cfn=(.*)", line):
            callee = m[1]
        elif m := re.match(r"calls=(\d+)", line):
            part.called[callee] += int(m[1])
            in_call = True
        elif m := re.match(r"(0x[0-9a-f]+) (\d+)$", line):
            if in_call:
                part.inclusive[callee] += int(m[2])
            else:
                part.functions[function] += int(m[2])
                part.addresses[function, int(m[1], 16)] += int(m[2])
            in_call = False
    return parts


def critical_sections(library):
    """[(start, behind the commit)] of the library's, as addresses before relocation."""
    headers = subprocess.run(["readelf", "-SW", library], check=True, capture_output=True, text=True).stdout
    m = re.search(r"__rseq_cs\s+PROGBITS\s+(\w+)\s+(\w+)\s+(\w+)", headers)
    address, offset, size = (int(x, 16) for x in m.groups())
    relocations = subprocess.run(["readelf", "-rW", library], check=True, capture_output=True, text=True).stdout
    addend = {int(a, 16): int(b, 16) for a, b in re.findall(r"^(\w+)\s+\w+\s+R_X86_64_RELATIVE\s+(\w+)$", relocations, re.M)}
    with open(library, "rb") as f:
        f.seek(offset)
        table = f.read(size)
    found = []
    for at in range(0, size, 32):
        start, length = struct.unpack_from("<QQ", table, at + 8)
        start = addend.get(address + at + 8, start)  # a packed relocation has its addend in place
        if length:
            found.append((start, start + length))
    return found


def begins_with_endbr(library):
    """Built with -fcf-protection: one instruction more a function, and no work."""
    text = subprocess.run(["objdump", "-d", "--disassemble=malloc", library], check=True, capture_output=True, text=True).stdout
    return re.search(r"<malloc[^>]*>:\n.*endbr64", text) is not None


def expect(good, message):
    if not good:
        wrong.append(message)


def check_sections(sections, parts, rseq):
    """The pairs of a run went through the critical sections, or through the locks."""
    for (phase, size), part in parts.items():
        if phase != "pair":
            continue
        for function in "malloc", "free":
            entered = sum(part.addresses[function, start + n] for start, _ in sections for n in (0, WITHIN))
            committed = sum(part.addresses[function, end] for _, end in sections)
            at_most = part.calls if rseq or function == "malloc" else 2 * part.calls  # a second one: at home elsewhere
            expect(part.calls <= entered <= at_most, f"{size}: {function} entered {entered} sections in {part.calls} calls")
            expect(committed == (part.calls if rseq else 0), f"{size}: {function} committed {committed} in {part.calls} calls")
        ran = {f for f, cost in part.functions.items() if cost}
        if rseq:
            expect(ran == {"malloc", "free"}, f"{size}: pairs ran {', '.join(sorted(ran))}")
        else:
            expect({"lock_pop_chain", "lock_push"} <= ran, f"{size}: in the lock mode pairs ran {', '.join(sorted(ran))}")


def check_amortised(parts, rseq):
    """Fills and drains needed the slow path; with rseq it took no area's lock."""
    for (phase, size), part in parts.items():
        if phase == "pair":
            continue
        function, slow = ("malloc", "malloc_slowpath") if phase == "fill" else ("free", "free_slowpath")
        expect(part.functions[function] > 0 and part.functions[slow] > 0, f"{size}: {phase} never needed {slow}")
        if rseq:
            locks = [f for f in ("lock_pop_chain", "lock_push", "lock_exchange") if part.functions[f]]
            expect(not locks, f"{size}: {phase} ran {', '.join(locks)}")


def costs(parts, size):
    """Instructions a malloc and a free of a pair, a malloc of a fill, a free of a drain; callees included."""
    phases = (("pair", "malloc"), ("pair", "free"), ("fill", "malloc"), ("drain", "free"))
    for phase, function in phases:
        part = parts[phase, size]
        expect(part.called[function] == part.calls, f"{size}: {part.called[function]} calls of {function} in a {phase}")
    return [parts[phase, size].inclusive[function] / parts[phase, size].calls for phase, function in phases]


def check_ceilings(mode, size, figures, ceilings, more):
    names = "malloc of a pair", "free of a pair", "malloc of a fill", "free of a drain"
    floors = FLOOR_MALLOC, FLOOR_FREE, FLOOR_MALLOC, FLOOR_FREE
    for name, figure, floor, ceiling in zip(names, figures, floors, ceilings):
        expect(floor <= figure, f"{mode}, {size} bytes: {figure:.1f} instructions a {name} cannot be: at least {floor}")
        expect(figure <= ceiling + more, f"{mode}, {size} bytes: {figure:.1f} instructions a {name}, at most {ceiling + more}")


def main(library, rseq_out, lock_out):
    rseq, lock = read_parts(rseq_out), read_parts(lock_out)
    sizes = sorted(size for phase, size in rseq if phase == "pair")
    expect(len(sizes) == CLASSES and sizes[-1] == 256 << 10, f"{len(sizes)} classes were measured: {sizes}")
    expect(set(rseq) == set(lock) == {(p, s) for p in ("pair", "fill", "drain") for s in sizes}, "phases are missing")
    if wrong:
        return
    more = int(begins_with_endbr(library))
    sections = critical_sections(library)
    check_sections(sections, rseq, True)
    check_sections(sections, lock, False)
    check_amortised(rseq, True)
    check_amortised(lock, False)
    print(f"{'':>8}   rseq: {'malloc':>6} {'free':>6} {'fill':>7} {'drain':>7}   lock: {'malloc':>6} {'free':>6} {'fill':>7} {'drain':>7}")
    for size in sizes:
        rseq_figures, lock_figures = costs(rseq, size), costs(lock, size)
        print(f"{size:8}         %6.1f %6.1f %7.1f %7.1f         %6.1f %6.1f %7.1f %7.1f" % (*rseq_figures, *lock_figures))
        ceilings = next(c for c in CEILINGS if size <= c[0])
        check_ceilings("rseq", size, rseq_figures, ceilings[1], more)
        check_ceilings("lock", size, lock_figures, ceilings[2], more)


main(*sys.argv[1:])
for message in wrong:
    print("FAILED:", message)
sys.exit(bool(wrong))
