# SPDX-License-Identifier: MIT
"""Ratios of one allocator to another, with bootstrap confidence intervals.

One round runs all allocators within seconds of each other, so a round's ratio is less noisy than its times. The
estimate for a row is the median over the rounds of the logarithm of the ratio; for a group of rows it is the mean of
those (the geometric mean of ratios). The interval is the middle 95 % of what the same estimate gives when the rounds
are drawn again with replacement, the same draw for all rows. An allocator is below another when the whole interval
of their ratio is below 1: that is asked of the ratio itself, round by round, not of two intervals that overlap or not.

Everything here works on series: {row: {allocator: [a number above 0 for each round]}}.
"""
import functools
import math
import random

RESAMPLES = 2000
ENOUGH_ROUNDS = 5           # with fewer, the interval of a median is too narrow whatever the draws give


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def mean(values):
    return sum(values) / len(values)


class Estimate:
    def __init__(self, ratio, low, high, rounds):
        self.ratio, self.low, self.high, self.rounds = ratio, low, high, rounds

    def surely_above(self, limit):
        return self.low > limit and self.rounds >= ENOUGH_ROUNDS

    @property
    def verdict(self):
        if self.rounds < ENOUGH_ROUNDS:
            return "unknown"
        return "below" if self.high < 1 else "above" if self.low > 1 else "equal"

    def as_dict(self):
        return {"ratio": self.ratio, "low": self.low, "high": self.high, "rounds": self.rounds, "verdict": self.verdict}


@functools.lru_cache
def draws(count, seed=1):
    rnd = random.Random(seed)
    return [[rnd.randrange(count) for _ in range(count)] for _ in range(RESAMPLES)]


def bootstrap(count, statistic):
    """statistic: the logarithm of the estimate, from a list of round numbers."""
    drawn = sorted(map(statistic, draws(count)))
    return Estimate(math.exp(statistic(range(count))), math.exp(drawn[int(0.025 * RESAMPLES)]),
                    math.exp(drawn[int(0.975 * RESAMPLES) - 1]), count)


def at(logs, draw):
    return median([logs[i] for i in draw])


def log_ratios(values, reference):
    """One logarithm a round; empty when either side is not complete."""
    return [math.log(v / r) for v, r in zip(values, reference)] if len(values) == len(reference) else []


def estimate(logs):
    """logs: a list of logarithms, one a round, for each row; the geometric mean over the rows."""
    if not logs or not all(logs):
        return None
    return bootstrap(min(map(len, logs)), lambda draw: mean([at(row, draw) for row in logs]))


def ratios(series, groups, pairs):
    """{row: {column: Estimate or None}} for every row and "mean of G" for every group G of rows.

    pairs: {column: (numerator, denominator)}, allocators. A group's mean is over the rows that all columns have.
    """
    logs = {row: {c: log_ratios(by[a], by[b]) for c, (a, b) in pairs.items()} for row, by in series.items()}
    found = {row: {c: estimate([by[c]]) for c in pairs} for row, by in logs.items()}
    for group, names in groups.items():
        complete = [row for row in names if row in logs and all(logs[row][c] for c in pairs)]
        if len(complete) > 1:
            found[f"mean of {group}"] = {c: estimate([logs[row][c] for row in complete]) for c in pairs}
    return found


def against(series, groups, subject, peers):
    """ratios() of subject to each peer by itself, a group's mean over the rows that the two have."""
    columns = [(p, ratios(series, groups, {p: (subject, p)})) for p in peers]
    rows = dict.fromkeys(row for _, found in columns for row in found)
    return {row: {p: found.get(row, {}).get(p) for p, found in columns} for row in rows}


def summit(series, names, subject, peers):
    """The geometric mean of subject to each row's best peer at once, chosen again in every draw of the rounds."""
    logs = [[found for p in peers if (found := log_ratios(series[row][subject], series[row][p]))]
            for row in names if row in series]
    logs = [by for by in logs if by]
    if len(logs) < 2:
        return None
    count = min(len(peer) for by in logs for peer in by)
    return bootstrap(count, lambda draw: mean([max(at(peer, draw) for peer in by) for by in logs]))
