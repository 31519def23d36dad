# SPDX-License-Identifier: MIT
"""What bench/compare shows: a table for the terminal, JSON, and SVG plots by gnuplot."""
import json
import os
import shutil
import subprocess

COLOURS = ("#888888", "#c0392b", "#2980b9", "#27ae60", "#8e44ad", "#d68910", "#16a085", "#7f8c8d", "#2c3e50", "#e84393")


def print_table(title, rows, allocators, out):
    width = max(len(r) for r in rows)
    out(f"\n{title}")
    out(f"{'':{width}}  " + "  ".join(f"{a:>22}" for a in allocators))
    for row, by in rows.items():
        cells = [f"{e.ratio:8.3f} [{e.low:5.3f},{e.high:6.3f}]" if e else f"{'failed':>22}"
                 for e in (by[a] for a in allocators)]
        out(f"{row:{width}}  " + "  ".join(f"{c:>22}" for c in cells))


def print_absolute(samples, units, allocators, median, out):
    """The medians themselves, for the reader who wants nanoseconds and MiB."""
    width = max(len(w) for w in samples)
    out("\nmedian time (its unit), median peak MiB")
    out(f"{'':{width}}  {'unit':>12}  " + "  ".join(f"{a:>18}" for a in allocators))
    for name, by in samples.items():
        cells = [f"{median([s['time'] for s in by[a]]):.4g}, {median([s['maxrss_kib'] for s in by[a]]) / 1024:.1f}"
                 if by[a] else "failed" for a in allocators]
        out(f"{name:{width}}  {units[name]:>12}  " + "  ".join(f"{c:>18}" for c in cells))


def write_json(path, document):
    with open(path, "w") as out:
        json.dump(document, out, indent=1)
        out.write("\n")


def quoted(text):
    return '"' + text.replace("_", "\\\\_") + '"'


def panel(title, block, allocators, ceiling):
    lines = [f"set title {quoted(title)}", f"set yrange [0:{ceiling:.2f}]"]
    bars = []
    for n, name in enumerate(allocators):
        first = 2 + 3 * n
        bars.append(f"{block} using {first}:{first + 1}:{first + 2}:xtic(1) title {quoted(name)} "
                    f"lc rgb \"{COLOURS[n % len(COLOURS)]}\"")
    return lines + ["plot 1 with lines lc rgb \"black\" dt 2 notitle, " + ", \\\n     ".join(bars)]


def plot(path, panels, allocators):
    """panels: [(title, rows)]. Bars with 95 % intervals; a bar beyond the ceiling is cut there. False: no gnuplot."""
    if not shutil.which("gnuplot"):
        return False
    blocks, drawing = [], []
    widest = max(len(rows) for _, rows in panels)
    for n, (title, rows) in enumerate(panels):
        blocks.append(f"$rows{n} << EOD")
        top = 1.0
        for row, by in rows.items():
            cells = []
            for a in allocators:
                e = by[a]
                cells += [f"{e.ratio:.4f} {e.low:.4f} {e.high:.4f}" if e else "NaN NaN NaN"]
                top = max(top, e.high if e else 0)
            blocks.append(f"{quoted(row)} " + " ".join(cells))
        blocks.append("EOD")
        drawing += panel(title, f"$rows{n}", allocators, min(top * 1.05, 3.0))
    width = 200 + widest * (14 * len(allocators) + 20)
    script = [f"set terminal svg size {max(width, 700)},{420 * len(panels)} dynamic font \"sans,12\" background \"white\"",
              f"set output \"{path}\"", *blocks,
              "set style data histogram", "set style histogram errorbars gap 1 lw 0.7", "set style fill solid 0.85 noborder",
              "set xtics rotate by -35 scale 0", "set grid ytics lc rgb \"#dddddd\"", "set key outside top horizontal",
              "set rmargin 8", f"set multiplot layout {len(panels)},1", *drawing, "unset multiplot"]
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    done = subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"gnuplot: {done.stderr}")
    return True
