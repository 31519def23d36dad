# SPDX-License-Identifier: MIT
"""How the field stands: a run's samples as series of numbers, their ratios, and libkmm against its peers and goals."""
import math

from . import statistics, workloads


class Field:
    """Reads what measure.rounds() sampled, out of the document that bench/compare writes as JSON."""

    def __init__(self, document, reference, subject):
        self.reference, self.subject = reference, subject
        self.allocators = list(document["allocators"])
        self.peers = [a for a in self.allocators if a != subject] if subject in self.allocators else []
        # libkmm with other settings is compared, but no rival
        path = {a: about["path"] for a, about in document["allocators"].items()}
        self.rivals = [p for p in self.peers if path[p] != path[subject]]
        self.packaged = [a for a, about in document["allocators"].items() if about["packaged"]]
        self.workloads, samples = document["workloads"], document["samples"]
        self.units = {row: unit for w in self.workloads.values() for row, unit in w["units"].items()}
        self.time_group = {row: w["group"] for w in self.workloads.values() for row in w["units"]}
        self.memory_units = {row: unit for w in self.workloads.values() for row, unit in w["memory_units"].items()}
        self.memory_group = {row: w["group"] for w in self.workloads.values() for row in w["memory_units"]}
        self.time_series = {row: {a: [s["figures"][row] for s in samples[name][a]] for a in self.allocators}
                            for name, w in self.workloads.items() for row in w["units"]}
        self.memory_series = {row: {a: [s["memory"][row] for s in samples[name][a]] for a in self.allocators}
                              for name, w in self.workloads.items() for row in w["memory_units"]}
        self.traces = {name: {a: of[a][0]["trace"] if of[a] else [] for a in self.allocators} for name, of in samples.items()}
        columns = {a: (a, reference) for a in self.allocators}
        self.time = statistics.ratios(self.time_series, means(self.time_group), columns)
        self.memory = statistics.ratios(self.memory_series, means(self.memory_group), columns)

    def against(self):
        """{"time" and "memory": {row: {peer: libkmm's ratio to it}}}."""
        return {"time": statistics.against(self.time_series, means(self.time_group), self.subject, self.peers),
                "memory": statistics.against(self.memory_series, means(self.memory_group), self.subject, self.peers)}

    def goals(self, against):
        """{row: libkmm's time against the row's best peer}, with what against() found for the times."""
        found = {}
        for row, by in self.time_series.items():
            goal = workloads.GOALS.get(self.time_group[row], workloads.OTHER_GOAL)
            peers = [p for p in self.rivals if by[p] and len(by[p]) == len(by[self.subject]) and (not goal.packaged or p in self.packaged)]
            if not peers:
                continue
            middle = min(peers, key=lambda p: statistics.median(by[p]))
            fastest = min(peers, key=lambda p: min(by[p]))
            best_runs = min(by[self.subject]) / min(by[fastest])
            estimate = against[row][middle]
            if goal.best_runs:
                peer, ratio, sure = fastest, best_runs, True
            else:
                peer, ratio, sure = middle, estimate.ratio, estimate.surely_above(goal.ceiling)
            found[row] = {"peer": peer, "ratio": ratio, "ceiling": goal.ceiling, "interval": against[row][peer], "best_runs": best_runs,
                          "verdict": "met" if ratio <= goal.ceiling else "over" if sure else "perhaps over"}
        return found

    def summits(self):
        """{"mean of G": libkmm's time to the best peer of each row at once}."""
        found = {f"mean of {g}": statistics.summit(self.time_series, rows, self.subject, self.rivals)
                 for g, rows in means(self.time_group).items()}
        return {row: e for row, e in found.items() if e}

    def large(self):
        """{program: libkmm's memory} where it is above the ceiling."""
        return {row: by[self.subject] for row, by in self.memory.items() if self.memory_group.get(row) in workloads.PROGRAMS
                and by.get(self.subject) and by[self.subject].ratio > workloads.MEMORY_CEILING}

    def curves(self):
        """{curve: {threads: {allocator: {"throughput": million pairs a second, "memory": peak MiB} or None}}}."""
        found = {}
        for name, w in self.workloads.items():
            if w["series"]:
                curve, threads = w["series"]
                found.setdefault(curve, {})[threads] = {a: self.point(name, a) for a in self.allocators}
        return found

    def point(self, name, allocator):
        ns, mib = self.time_series[name][allocator], self.memory_series[name][allocator]
        return {"throughput": statistics.estimate([[math.log(1000 / v) for v in ns]]),
                "memory": statistics.estimate([[math.log(v) for v in mib]])} if ns else None

    def stories(self):
        """{workload: {allocator: [[seconds, resident, live]]}} of the first round, for those that tell one."""
        return {name: by for name, by in self.traces.items() if any(by.values())}


def means(group):
    """The rows of each geometric mean whose groups have all been run; group: {row: its group}."""
    return {mean: [row for row, g in group.items() if g in parts] for mean, parts in workloads.MEANS.items()
            if set(parts) <= set(group.values())}


def panels(field):
    """What to plot: (title, rows) for each group, time and memory, and for the geometric means."""
    found = []
    for group in [*dict.fromkeys(field.memory_group.values()), None]:
        for what, rows, of in (("time", field.time, field.time_group), ("memory", field.memory, field.memory_group)):
            chosen = {row: by for row, by in rows.items() if of.get(row) == group}
            if chosen:
                found.append((f"{group or 'geometric means'}: {what}, ratio to {field.reference}", chosen))
    return found


def plain(value):
    """Estimates as dictionaries, for JSON."""
    if isinstance(value, statistics.Estimate):
        return value.as_dict()
    return {key: plain(v) for key, v in value.items()} if isinstance(value, dict) else value
