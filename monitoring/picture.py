"""Draws the panels of grafana/redis-lock.json from what a Prometheus has, by the panels' own queries. It is no Grafana: it knows
what these panels use.

usage: python3 picture.py http://127.0.0.1:9090 MINUTES picture.png
"""

import io
import json
import math
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("agg")
import matplotlib.dates
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullLocator
from PIL import Image

DASHBOARD = pathlib.Path(__file__).resolve().parent / "grafana/redis-lock.json"
# Grafana's palette for series without a colour of their own.
COLOURS = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9"]
# Grafana's grid is 24 wide.
WIDTH = 24


def ask(prometheus, what, **words):
    with urllib.request.urlopen(f"{prometheus}/api/v1/{what}?{urllib.parse.urlencode(words)}", timeout=30) as reply:
        return json.load(reply)["data"]


def scrape_interval(prometheus):
    number, unit = re.search(r"scrape_interval: (\d+)(s|m)\b", ask(prometheus, "status/config")["yaml"]).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def in_units(names, base):
    """Tells a value by the largest of these units that it reaches."""
    def tell(value, _=None):
        power = 0
        while power + 1 < len(names) and abs(value) >= base:
            value, power = value / base, power + 1
        return f"{value:.3g}{names[power]}"
    return tell


UNITS = {
    "short": in_units(["", " K", " Mil"], 1000),
    "ops": in_units([" ops/s", "K ops/s"], 1000),
    "s": lambda value, _=None: in_units([" µs", " ms", " s"], 1000)(value * 1e6) if value else "0 s",
    "bytes": in_units([" B", " KiB", " MiB", " GiB"], 1024),
}


def ticks(unit, largest, is_log):
    if is_log:
        return LogLocator(numticks=8)
    if unit == "bytes":
        return MultipleLocator(2 ** math.ceil(math.log2(max(largest, 1) / 4)))
    return MaxNLocator(5, steps=[1, 2, 5, 10])


def draw_panel(axes, panel, prometheus, times, rate_interval, marks):
    look = panel["fieldConfig"]["defaults"]
    custom = look["custom"]
    series = []
    for target in panel["targets"]:
        expr = target["expr"].replace("$instance", ".*").replace("$__rate_interval", f"{rate_interval}s")
        for row in ask(prometheus, "query_range", query=expr, start=times[0], end=times[-1], step=times[1] - times[0])["result"]:
            name = re.sub(r"{{(\w+)}}", lambda label, row=row: row["metric"].get(label[1], ""), target["legendFormat"])
            series.append((name, {int(at): float(value) for at, value in row["values"]}))
    # Matplotlib counts days.
    days = [at / 86400 for at in times]
    for number, (name, values) in enumerate(series):
        # Where Prometheus has no value, a line has a gap.
        line = [values.get(at, math.nan) for at in times]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(days, line, color=colour, linewidth=custom["lineWidth"] * 1.3, label=name, marker=".", markersize=1.5)
        axes.fill_between(days, line, color=colour, alpha=custom["fillOpacity"] / 100, linewidth=0)
    found = [value for _, values in series for value in values.values() if value > 0]
    is_log = custom.get("scaleDistribution", {}).get("type") == "log"
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(10 ** math.floor(math.log10(min(found, default=1))), 10 ** math.ceil(math.log10(max(found, default=10))))
    else:
        axes.set_ylim(look["min"], max(found, default=1) * 1.08)
    axes.set_xlim(days[0], days[-1])
    axes.set_title(panel["title"], loc="left", fontsize=10, fontweight="bold", pad=14)
    axes.yaxis.set_major_locator(ticks(look["unit"], max(found, default=1), is_log))
    axes.yaxis.set_major_formatter(FuncFormatter(UNITS[look["unit"]]))
    axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(minticks=4, maxticks=8))
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=7, length=0)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.06, -0.08), ncols=3, fontsize=6.5, frameon=False, handlelength=1,
                columnspacing=0.8, labelspacing=0.3)
    for number, (at, _) in enumerate(marks, 1):
        axes.axvline(at / 86400, color="#555555", linewidth=0.7, linestyle=":")
        axes.annotate(number, (at / 86400, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                      ha="center", fontsize=7, color="#555555")


def draw(prometheus, start, end, out, marks=()):
    """Draws what was from start to end, in seconds since 1970. Marks are times with a text each, which is written at the end."""
    scrape = scrape_interval(prometheus)
    step = max(scrape, round((end - start) / 300))
    # As Grafana does.
    rate_interval = max(step + scrape, 4 * scrape)
    times = list(range(int(start), int(end) + 1, step))
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = [panel["gridPos"] for panel in panels]
    rows = max(place["y"] + place["h"] for place in places)
    figure = plt.figure(figsize=(13, rows * 0.36))
    grid = figure.add_gridspec(rows, WIDTH, left=0.06, right=0.985, top=0.975, bottom=-0.02)
    for panel, place in zip(panels, places):
        # The lowest three rows of a panel, and a column beside it, are for what is written around the axes.
        axes = figure.add_subplot(grid[place["y"]:place["y"] + place["h"] - 3, place["x"]:place["x"] + place["w"] - 1])
        draw_panel(axes, panel, prometheus, times, rate_interval, marks)
    legend = "\n\n".join(f"{number}  {text}" for number, (_, text) in enumerate(marks, 1))
    figure.text(0.53, 0.07, legend, fontsize=9, va="center")
    # Fewer colours are enough, and take less room.
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=90)
    Image.open(drawn).convert("RGB").quantize(160, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    draw(sys.argv[1], time.time() - 60 * float(sys.argv[2]), time.time(), sys.argv[3])
