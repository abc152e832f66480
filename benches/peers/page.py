"""The picture of ../versus.py: one page that needs nothing else, in light and dark."""
import math
from html import escape

import table
from table import OURS, percent, short, time

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #626d78; --line: #d5dbe1; --back: #fff; --band: #e4e9ee;
  --ours: #c2410c; --raw: #1d6fb8; --third: #4d8a3c; --bad: #b91c1c; --good: #2f7d32; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #98a3ae; --line: #38414a; --back: #14181c;
  --band: #272e35; --ours: #fb923c; --raw: #6cb3f0; --third: #8fca7c; --bad: #f87171; --good: #7bc77f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--back); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; } h3 { font-size: .95rem; margin: 1.2rem 0 .2rem; }
p { margin: .3rem 0 .6rem; max-width: 48rem; } .dim { color: var(--dim); font-size: .85rem; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; font-size: .9rem; }
svg { width: 100%; height: auto; display: block; max-width: 34rem; } svg text { fill: var(--ink); font: 11px system-ui, sans-serif; }
svg .dim { fill: var(--dim); font-size: 11px; } svg .end { text-anchor: end; } svg .mid { text-anchor: middle; }
.grid { stroke: var(--line); } .one { stroke: var(--dim); } .band { fill: var(--band); } .floor { stroke: var(--bad); stroke-width: 2; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; width: 100%; }
th, td { padding: .15rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--dim); font-weight: 500; } tr.ours td { font-weight: 600; }
.bad { color: var(--bad); } .good { color: var(--good); }
"""
WIDTH = 360
# By peer: who has no colour here is in the tables alone.
COLOURS = {OURS: "--ours", "raw epoll": "--raw", "tokio, by hand": "--third"}


def tag(name, text="", **attributes):
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return f"<{name}{given}>{text}</{name}>"


def label(x, y, words, class_=""):
    return tag("text", escape(words), x=f"{x:.1f}", y=f"{y:.1f}", class_=class_)


def rule(x1, y1, x2, y2, class_="grid"):
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


def figure(caption, height, parts):
    svg = tag("svg", "".join(parts), viewBox=f"0 0 {WIDTH} {height:.0f}", role="img", aria_label=caption)
    return tag("figure", tag("figcaption", escape(caption)) + svg)


def clamped(value, low, high):
    return min(max(value, low), high)


def strips(scenarios, caption, low, high, ticks, log=False, key="ratio"):
    """A row a scenario: each round a dot, the median a bar, the base against itself a band."""
    left, right, row = 8, WIDTH - 8, 40

    def x(ratio):
        ratio = clamped(ratio, low, high)
        part = math.log(ratio / low) / math.log(high / low) if log else (ratio - low) / (high - low)
        return left + part * (right - left)

    bottom = row * len(scenarios) + 4
    parts = [rule(x(tick), 0, x(tick), bottom, "one" if tick == 1 else "grid") for tick in ticks]
    for index, one in enumerate(scenarios):
        top, ratio, itself = index * row, one["peers"][OURS][key], one["peers"][one["base"]][key]
        middle = top + 26
        if itself:
            from_x, to_x = x(itself["min"]), x(itself["max"])
            parts.append(tag("rect", x=f"{from_x:.1f}", y=middle - 9, width=f"{max(to_x - from_x, 1):.1f}", height=18, class_="band"))
        if one["floor"] and key == "ratio":
            parts.append(rule(x(one["floor"]), middle - 9, x(one["floor"]), middle + 9, "floor"))
        for number, value in enumerate(ratio["each"]):
            parts.append(tag("circle", cx=f"{x(value):.1f}", cy=middle + (number % 3 - 1) * 4, r=2.6, fill="var(--ours)", fill_opacity=0.55))
        parts.append(tag("rect", x=f"{x(ratio['median']) - 1.5:.1f}", y=middle - 10, width=3, height=20, fill="var(--ours)"))
        name = one["title"] if one["base"] == "raw epoll" or one["base"].lower() in one["title"].lower() else f"{one['title']}; {one['base']}"
        parts += [label(left, top + 13, name), label(right, top + 13, f"{ratio['median']:.2f}", "end")]
    parts += [label(clamped(x(tick), left + 8, right - 8), bottom + 12, f"{tick:g}", "dim mid") for tick in ticks]
    return figure(caption, bottom + 18, parts)


def steps(low, high, log):
    """Round numbers from one end to the other."""
    if log:
        return [m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 3)
                if low <= m * 10.0**e <= high]
    size = 10 ** math.floor(math.log10(high / 2))
    size *= 2 if high / size > 5 else 1
    return [size * n for n in range(int(high / size) + 1)]


def curves(caption, series, show, log=False):
    """Lines over the number of connections, {label: [(connections, value)]}."""
    series = {name: [(n, v) for n, v in points if v > 0 or not log] for name, points in series.items() if name in COLOURS}
    every = [point for points in series.values() for point in points]
    if not every:
        return ""
    left, right, top, bottom = 44, WIDTH - 12, 10 + 14 * len(series), 210
    first, last = min(n for n, _ in every), max(n for n, _ in every)
    high = max(v for _, v in every) * 1.08
    low = min(v for _, v in every) / 1.3 if log else 0

    def x(n):
        return left + (math.log(n / first) / math.log(last / first) if last > first else 0.5) * (right - left)

    def y(v):
        part = math.log(v / low) / math.log(high / low) if log else (v - low) / (high - low)
        return bottom - part * (bottom - top)

    parts = []
    for tick in steps(low, high, log):
        parts += [rule(left, y(tick), right, y(tick)), label(left - 5, y(tick) + 4, show(tick), "dim end")]
    for n in sorted({n for n, _ in every}):
        # 10,000 and 19,000 are near each other.
        parts.append(label(min(x(n), right) + (8 if n == last else 0), bottom + 15, short(n), "dim end" if n == last else "dim mid"))
    for index, (name, points) in enumerate(series.items()):
        colour = f"var({COLOURS[name]})"
        path = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in sorted(points))
        parts += [tag("polyline", points=path, fill="none", stroke=colour, stroke_width=2),
                  *(tag("circle", cx=f"{x(n):.1f}", cy=f"{y(v):.1f}", r=3, fill=colour) for n, v in points),
                  tag("rect", x=left, y=index * 14 + 2, width=10, height=4, fill=colour), label(left + 15, index * 14 + 8, name)]
    return figure(caption, bottom + 22, parts)


def growth(run):
    def over(key, mode="closed"):
        found = {}
        for one in run["scenarios"]:
            if one["mode"] == mode and one["name"] == f"c{one['connections']}":
                for name, peer in one["peers"].items():
                    found.setdefault(name, []).append((one["connections"], peer[key]))
        return found

    idle = {name: [(int(count), size) for count, size in one["bytes"].items()]
            for name, one in run["exact"].get("idle", {}).items() if "bytes" in one}
    return "".join([curves("Messages a second, by connections", over("per_s"), short),
                    curves("Server CPU a message, by connections", over("cpu_ns"), lambda ns: time(ns / 1000) if ns else "0"),
                    curves("Bytes of memory an idle connection", idle, short, log=True)])


def row(cells, name="td", **attributes):
    return tag("tr", "".join(tag(name, cell) for cell in cells), **attributes)


def ratio_cells(ratio):
    return [f"{ratio['median']:.2f}", f"{ratio['min']:.2f} to {ratio['max']:.2f}"] if ratio else ["", ""]


def scenario_table(one):
    head = row(["", one["unit"] + "/s", "ratio", "spread", "CPU", "ratio", "busy", "client", "p50", "p99", "p99.9"], "th")
    rows = []
    for name, peer in one["peers"].items():
        cpu = peer["cpu_ratio"]
        rows.append(row([escape(name) + (", A/A" if name == one["base"] else ""), short(peer["per_s"]), *ratio_cells(peer["ratio"]),
                         time(peer["cpu_ns"] / 1000), f"{cpu['median']:.2f}" if cpu else "", percent(peer["busy"]),
                         percent(peer["load_busy"]), *(time(peer[key]) for key in ["p50_us", "p99_us", "p999_us"])],
                        **({"class_": "ours"} if name == OURS else {})))
    goal = ""
    if one["verdict"]:
        colour = "bad" if "BELOW" in one["verdict"] else "good"
        goal = tag("p", f"floor {one['floor']:g}, aim {one['aim']:g}: " + tag("span", escape(one["verdict"]), class_=colour), class_="dim")
    return tag("h3", escape(f"{one['name']}: {one['title']}")) + goal + tag("div", tag("table", head + "".join(rows)), class_="scroll")


def html(run):
    shown = [one for one in run["scenarios"] if one["mode"] != "rate" and OURS in one["peers"] and one["base"] in one["peers"] and one["peers"][OURS]["ratio"]]
    raw = [one for one in shown if one["base"] == "raw epoll"]
    others = [one for one in shown if one["base"] != "raw epoll"]
    charts = []
    if raw:
        charts.append(strips(raw, "Throughput to the raw epoll server's: more is better", 0.4, 1.3, [0.4, 0.6, 0.8, 1, 1.2]))
        charts.append(strips(raw, "CPU a message to the raw epoll server's: less is better", 0.7, 2.5, [0.7, 1, 1.5, 2, 2.5], True, "cpu_ratio"))
    if others:
        charts.append(strips(others, "Throughput to others': more is better", 0.8, 16, [1, 2, 4, 8, 16], True))

    host = "; ".join(f"{key} {value}" for key, value in run["host"].items())
    grown, counted = growth(run), "\n".join(table.exact_text(run["exact"])).strip()
    tails = "".join(row([escape(f"{name}, {nuisance}"), *ratio_cells(one)], **({"class_": "ours"} if name == OURS else {}))
                    for nuisance, of in run["tails"].items() for name, one in of.items())
    body = [
        tag("h1", "oneloop beside its peers"),
        tag("p", escape(f"{run['rounds']} rounds of {run['seconds']:g} s. {host}"), class_="dim"),
        tag("p", "Each dot is the ratio of one round, the bar their median, the grey band the first peer against itself in the "
                 "same rounds: a ratio inside it is a tie. The red line is the floor."),
        tag("div", "".join(charts), class_="charts"),
    ]
    if grown:
        body += [tag("h2", "Growth"), tag("div", grown, class_="charts")]
    body += [tag("h2", "Every peer"),
             tag("p", "Ratios are to the first peer; its own row is its first run to its second. CPU is the server's, a message. "
                      "Busy and client: how much of the time each was on its processor.", class_="dim"),
             *(scenario_table(one) for one in run["scenarios"])]
    if tails:
        body += [tag("h3", "p99.9 beside a nuisance, to p99.9 alone"),
                 tag("div", tag("table", row(["", "ratio", "spread"], "th") + tails), class_="scroll")]
    if counted:
        body += [tag("h2", "Counted"), tag("div", tag("pre", escape(counted), class_="dim"), class_="scroll")]
    body += [tag("p", escape(f"skipped: {name}: {why}"), class_="dim") for name, why in run["skipped"].items()]
    body += [tag("p", escape(f"error: {error}"), class_="bad") for error in run["errors"]]
    head = (tag("meta", charset="utf-8").removesuffix("</meta>")
            + '<meta name="viewport" content="width=device-width, initial-scale=1">'
            + tag("title", "oneloop beside its peers") + tag("style", STYLE))
    return f"<!doctype html>\n<html lang=\"en\"><head>{head}</head>\n<body>" + "\n".join(body) + "</body></html>"
