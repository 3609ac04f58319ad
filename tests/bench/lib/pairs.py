"""Interleaved pairs and what may be said of them."""

import random
import statistics

_RESAMPLES = 10_000


def interleave(count, one, other):
    """Calls both `count` times, each time the other one first. Yields (number, result of one, result of other)."""
    for number in range(1, count + 1):
        if number % 2:
            first = one()
            yield number, first, other()
        else:
            second = other()
            yield number, one(), second


def middle(values):
    """The median."""
    return statistics.median(values)


def percentile(values, share):
    """The value below which `share` (0 to 1) of the values are, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def interval(values, share=0.95):
    """The bootstrap interval of the median: resampled with a fixed seed, so that it can be told again."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    edge = (1 - share) / 2
    return medians[int(edge * _RESAMPLES)], medians[int((1 - edge) * _RESAMPLES) - 1]


def spread(values, unit="", digits=2):
    """`median 1.02 (0.98 to 1.10)`."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"median {middle:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


class Table:
    """The pairs of one comparison, printed as they come unless `quiet`. The ratio is `ours / theirs`."""

    def __init__(self, ours, theirs, unit, digits=2, more_is_better=False, ratio_digits=3, quiet=False):
        self.names, self.unit, self.digits = (ours, theirs), unit, digits
        self.ratio_digits, self.quiet = ratio_digits, quiet
        self.more_is_better = more_is_better
        self.ours, self.theirs, self.ratios = [], [], []

    def add(self, ours, theirs):
        """Takes one pair."""
        self.ours.append(ours)
        self.theirs.append(theirs)
        self.ratios.append(ours / theirs)
        if self.quiet:
            return
        (one, other), unit, digits = self.names, self.unit, self.digits
        print(
            f"  pair {len(self.ratios):3}  {other} {theirs:9.{digits}f}{unit}   {one} {ours:9.{digits}f}{unit}   "
            f"ratio {self.ratios[-1]:.{self.ratio_digits}f}",
            flush=True,
        )

    def close(self, goal=None, what="wall"):
        """Prints medians, ranges and the interval; and whether `goal` (a ratio) is met by the median."""
        for name, values in zip(self.names, (self.ours, self.theirs)):
            late = f", p95 {percentile(values, 0.95):.{self.digits}f}{self.unit}" if len(values) >= 20 else ""
            print(f"  {name}: {spread(values, self.unit, self.digits)}{late}")
        low, high = interval(self.ratios)
        exact = self.ratio_digits
        print(f"  {what} ratio {self.names[0]} / {self.names[1]}: {spread(self.ratios, digits=exact)}, "
              f"95 % interval of the median {low:.{exact}f} to {high:.{exact}f}, {len(self.ratios)} pairs")
        if goal is not None:
            middle = statistics.median(self.ratios)
            met = middle >= goal if self.more_is_better else middle <= goal
            verdict(f"{what} ratio {'≥' if self.more_is_better else '≤'} {goal}", met, f"{middle:.{exact}f}")


def verdict(goal, met, found):
    """One line that says whether a goal was met."""
    print(f"  goal {goal}: {'met' if met else 'MISSED'} ({found})", flush=True)
