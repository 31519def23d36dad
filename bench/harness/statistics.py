# SPDX-License-Identifier: MIT
"""Ratios to a reference allocator, with bootstrap confidence intervals.

One round runs all allocators within seconds of each other, so a round's ratio is less noisy than its times. The
estimate for a workload is the median over the rounds of the logarithm of the ratio; for a group of workloads it is
the mean of those (the geometric mean of ratios). The interval is the middle 95 % of what the same estimate gives
when the rounds are drawn again with replacement, the same draw for all workloads.
"""
import math
import random

RESAMPLES = 2000


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def log_ratios(samples, reference, field):
    """One logarithm a round; empty when either side is not complete."""
    if len(samples) != len(reference) or not samples:
        return []
    return [math.log(s[field] / r[field]) for s, r in zip(samples, reference) if s[field] > 0 and r[field] > 0]


class Estimate:
    def __init__(self, ratio, low, high):
        self.ratio, self.low, self.high = ratio, low, high

    def as_dict(self):
        return {"ratio": self.ratio, "low": self.low, "high": self.high}


def estimate(series, seed=1):
    """series: one list of logarithms for each workload, all equally long; the geometric mean over them."""
    series = [s for s in series if s]
    if not series:
        return None
    count = min(len(s) for s in series)
    rnd = random.Random(seed)

    def once(draw):
        return sum(median([s[i] for i in draw]) for s in series) / len(series)

    drawn = sorted(once([rnd.randrange(count) for _ in range(count)]) for _ in range(RESAMPLES))
    return Estimate(math.exp(once(range(count))), math.exp(drawn[int(0.025 * RESAMPLES)]),
                    math.exp(drawn[int(0.975 * RESAMPLES) - 1]))


def summarise(samples, groups, allocators, reference, field):
    """{row: {allocator: Estimate or None}} for every workload, and one row for each group's geometric mean.

    A group's mean is over the workloads that every allocator finished, else means would not be comparable.
    """
    logs = {w: {a: log_ratios(by[a], by[reference], field) for a in allocators} for w, by in samples.items()}
    rows = {w: {a: estimate([logs[w][a]]) for a in allocators} for w in samples}
    for group, names in groups.items():
        complete = [w for w in names if all(logs[w][a] for a in allocators)]
        if len(complete) > 1:
            rows[f"mean of {group}"] = {a: estimate([logs[w][a] for w in complete]) for a in allocators}
    return rows
