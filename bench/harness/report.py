# SPDX-License-Identifier: MIT
"""What bench/compare shows: tables for the terminal, JSON, and SVG plots by gnuplot."""
import json
import math
import os
import shutil
import subprocess

from .statistics import median

COLOURS = ("#888888", "#c0392b", "#2980b9", "#27ae60", "#8e44ad", "#d68910", "#16a085", "#7f8c8d", "#2c3e50", "#e84393")
BAR_CEILING = 3.0


def print_cells(title, columns, rows, out):
    """rows: {name: [text, ...]}."""
    widths = [max(len(c) for c in cells) for cells in zip(columns, *rows.values())]
    first = max(map(len, rows))
    out(f"\n{title}")
    out(f"{'':{first}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(columns, widths)))
    for name, cells in rows.items():
        out(f"{name:{first}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths)))


def cell(e, missing="failed"):
    return f"{e.ratio:.3f} [{e.low:.3f}, {e.high:.3f}]" if e else missing


def print_ratios(title, rows, allocators, out):
    print_cells(title, allocators, {row: [cell(by[a]) for a in allocators] for row, by in rows.items()}, out)


def print_medians(title, series, units, allocators, out):
    """For the reader who wants nanoseconds and MiB."""
    rows = {row: [units[row]] + [f"{median(by[a]):.4g}" if by[a] else "failed" for a in allocators] for row, by in series.items()}
    print_cells(title, ["unit", *allocators], rows, out)


def print_curve(curve, points, allocators, out):
    """points: as Field.curves() gives them."""
    def text(point, of=None):
        parts = [point[part].ratio / (of[part].ratio if of else 1) for part in ("throughput", "memory")] if point else []
        return "{:.2f}, {:.2f}".format(*parts) if parts else "failed"

    first, last = min(points), max(points)
    rows = {f"{n} threads": [text(by[a]) for a in allocators] for n, by in points.items()}
    if first != last:
        rows[f"{last} to {first}"] = [text(points[first][a] and points[last][a], points[first][a]) for a in allocators]
    print_cells(f"{curve}: million pairs of malloc and free a second, peak MiB", allocators, rows, out)


def print_standing(peers, summary, out):
    """libkmm against its peers: is a group's geometric mean below the peer's, and how far is each row from the best?"""
    for what, rows in summary["against"].items():
        means = {row: [f"{cell(e, '-')} {e.verdict if e else ''}" for e in by.values()]
                 for row, by in rows.items() if row.startswith("mean of ")}
        if means:
            print_cells(f"{what}: libkmm to each peer, paired by round; below: the whole interval is", peers, means, out)
    goals = summary["goals"]
    if goals:
        print_cells("time: libkmm to the best peer of each row; the ceiling holds for the median or for the best runs, see README",
                    ["best peer", "median", "best runs", "ceiling", ""],
                    {row: [g["peer"], cell(g["interval"]), f"{g['best_runs']:.3f}", f"{g['ceiling']:.2f}", g["verdict"]]
                     for row, g in goals.items()}, out)
    out("")
    for row, e in summary["summits"].items():
        out(f"{row}, libkmm to the best peer of each row at once: {cell(e)}")
    for verdict in ("over", "perhaps over"):
        rows = [f"{row} {g['ratio']:.3f} of {g['peer']}" for row, g in goals.items() if g["verdict"] == verdict]
        out(f"time {verdict} the ceiling: {', '.join(rows) or 'none'}")
    out(f"programs with too much memory: {', '.join(f'{row} {e.ratio:.3f}' for row, e in summary['large'].items()) or 'none'}")


def write_json(path, document):
    with open(path, "w") as out:
        json.dump(document, out, indent=1)
        out.write("\n")


def quoted(text):
    return '"' + text.replace("_", "\\\\_") + '"'


def data_block(block, rows):
    """rows: {first column: [Estimate or None, ...]}."""
    return [f"{block} << EOD",
            *(f"{first} " + " ".join(f"{e.ratio:.4f} {e.low:.4f} {e.high:.4f}" if e else "NaN NaN NaN" for e in row)
              for first, row in rows.items()), "EOD"]


def bars(block, title, rows, allocators):
    """A data block and the commands that draw it: ratios with intervals, those beyond the ceiling are cut there."""
    data = data_block(block, {quoted(row): [by[a] for a in allocators] for row, by in rows.items()})
    top = max(1.0, *(e.high for by in rows.values() for e in by.values() if e))
    drawn = [f"{block} using {2 + 3 * n}:{3 + 3 * n}:{4 + 3 * n}:xtic(1) title {quoted(name)} lc rgb \"{COLOURS[n % len(COLOURS)]}\""
             for n, name in enumerate(allocators) if any(by[name] for by in rows.values())]
    return data, [f"set title {quoted(title)}", f"set yrange [0:{min(top * 1.05, BAR_CEILING):.2f}]",
                  "plot 1 with lines lc rgb \"black\" dt 2 notitle, " + ", \\\n     ".join(drawn)]


def lines(block, title, points, allocators):
    """Both commands and data as of bars(): an Estimate over the number of threads, a line for each allocator."""
    data = data_block(block, {n: [by[a] for a in allocators] for n, by in points.items()})
    top = max(e.high for by in points.values() for e in by.values() if e)
    drawn = [f"{block} using 1:{2 + 3 * n}:{3 + 3 * n}:{4 + 3 * n} with yerrorlines title {quoted(name)} "
             f"lc rgb \"{COLOURS[n % len(COLOURS)]}\" pt 7 ps 0.6" for n, name in enumerate(allocators)]
    return data, [f"set title {quoted(title)}", f"set yrange [0:{top * 1.05:.2f}]", f"set xtics ({', '.join(map(str, points))})",
                  f"set xrange [{min(points) / math.sqrt(2):.2f}:{max(points) * math.sqrt(2):.2f}]",
                  "plot " + ", \\\n     ".join(drawn)]


def story(block, title, by):
    """Commands and data as of bars(): resident MiB over the seconds, a line for each allocator, and what is live."""
    told = {a: points for a, points in by.items() if points}
    data = [line for n, points in enumerate(told.values())
            for line in (f"{block}_{n} << EOD", *(" ".join(f"{v:.2f}" for v in point) for point in points), "EOD")]
    drawn = [f"{block}_{n} using 1:2 with lines lw 1.5 lc rgb \"{COLOURS[list(by).index(a) % len(COLOURS)]}\" title {quoted(a)}"
             for n, a in enumerate(told)]
    drawn.append(f"{block}_0 using 1:3 with lines lw 1.5 dt 2 lc rgb \"black\" title \"live\"")
    return data, [f"set title {quoted(title)}", "set yrange [0:*]", "set xrange [0:*]", "plot " + ", \\\n     ".join(drawn)]


def gnuplot(path, size, columns, settings, panels):
    """panels: [(data, commands)]. False: there is no gnuplot."""
    if not shutil.which("gnuplot"):
        return False
    script = [f"set terminal svg size {size[0]},{size[1]} dynamic font \"sans,12\" background \"white\"", f"set output \"{path}\"",
              *(line for data, _ in panels for line in data),
              "set grid ytics lc rgb \"#dddddd\"", "set key outside top horizontal", *settings,
              f"set multiplot layout {-(-len(panels) // columns)},{columns}", *(line for _, drawing in panels for line in drawing),
              "unset multiplot"]
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    done = subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, capture_output=True)
    if done.returncode or done.stderr:
        raise RuntimeError(f"gnuplot: {done.stderr}")
    return True


def plot_bars(path, panels, allocators):
    """panels: [(title, rows of Estimates)], one below the other."""
    widest = max(len(rows) for _, rows in panels)
    width = 200 + widest * (14 * len(allocators) + 20)
    return gnuplot(path, (max(width, 700), 340 * len(panels)), 1,
                   ["set style data histogram", "set style histogram errorbars gap 1 lw 0.7", "set style fill solid 0.85 noborder",
                    "set xtics rotate by -35 scale 0", "set rmargin 8"],
                   [bars(f"$rows{n}", title, rows, allocators) for n, (title, rows) in enumerate(panels)])


def plot_curves(path, curves, allocators):
    """curves: {curve: points as for print_curve()}; throughput on the left, memory on the right."""
    panels = []
    for curve, points in curves.items():
        for part, what in (("throughput", "million pairs a second"), ("memory", "peak resident MiB")):
            chosen = {n: {a: by[a] and by[a][part] for a in allocators} for n, by in points.items()}
            panels.append(lines(f"$curve{len(panels)}", f"{curve}: {what} over threads", chosen, allocators))
    return gnuplot(path, (1200, 420 * len(curves)), 2, ["set logscale x 2", "set xlabel \"threads\""], panels)


def plot_stories(path, stories):
    """stories: as Field.stories() gives them, a file each, path with the workload's name at {}. The files."""
    drawn = {path.format(name): story("$story", f"{name}: resident MiB over the seconds", by) for name, by in stories.items()}
    return [file for file, panel in drawn.items() if gnuplot(file, (1000, 420), 1, ["set xlabel \"seconds\""], [panel])]
