"""What ../versus.py makes of its figures: ratios by round, and a table of 110 columns."""
from statistics import mean, median

KEYS = ["per_s", "cpu_ns", "busy", "load_busy", "p50_us", "p99_us", "p999_us"]
OURS = "oneloop"


def spread(values):
    return {"each": values, "median": median(values), "min": min(values), "max": max(values)} if values else None


def ratios(rounds, label, base, key):
    """Of each round that has both. The base is compared with itself, the first with the second."""
    values = []
    for cells in rounds:
        ours, theirs = cells.get(label, []), cells.get(base, [])
        if label == base and len(theirs) == 2:
            values.append(theirs[0][key] / theirs[1][key])
        elif label != base and ours and theirs and mean(one[key] for one in theirs):
            values.append(mean(one[key] for one in ours) / mean(one[key] for one in theirs))
    return spread(values)


def verdict(scenario, ratio, itself):
    if scenario.floor is None or not ratio or not itself:
        return None
    if ratio["median"] >= scenario.aim:
        return "reaches its aim"
    if ratio["median"] >= scenario.floor:
        return "above its floor"
    # Where one and the same server differs as much from itself, nothing is shown.
    if ratio["median"] / scenario.floor >= itself["min"]:
        return "a tie with its floor"
    return "BELOW ITS FLOOR"


def summary(scenario, rounds):
    base, peers = scenario.peers[0][0], {}
    for label, *_ in scenario.peers:
        cells = [cell for one in rounds for cell in one.get(label, [])]
        if not cells:
            continue
        peers[label] = {key: median(cell[key] for cell in cells) for key in KEYS}
        peers[label]["ratio"] = ratios(rounds, label, base, "per_s")
        peers[label]["cpu_ratio"] = ratios(rounds, label, base, "cpu_ns")
    itself = peers.get(base, {}).get("ratio")
    return {"name": scenario.name, "title": scenario.title, "mode": scenario.mode, "unit": scenario.unit, "base": base,
            "connections": scenario.settings.get("conns"), "floor": scenario.floor, "aim": scenario.aim, "peers": peers,
            "verdict": verdict(scenario, peers.get(OURS, {}).get("ratio"), itself)}


def tails(results):
    """p99.9 beside a nuisance to p99.9 alone, of the same server in the same round."""
    found = {}
    for nuisance in ["bulk", "drip"]:
        for alone, beside in zip(results.get("tail-none", []), results.get("tail-" + nuisance, [])):
            for label in [label for label in alone if label in beside]:
                ratio = mean(c["p999_us"] for c in beside[label]) / mean(c["p999_us"] for c in alone[label])
                found.setdefault(nuisance, {}).setdefault(label, []).append(ratio)
    return {nuisance: {label: spread(values) for label, values in of.items()} for nuisance, of in found.items()}


def short(number):
    """Three digits and a unit, as in 12.3k."""
    for size, unit in [(1e9, "G"), (1e6, "M"), (1e3, "k")]:
        if number >= size * 0.9995:
            return f"{number / size:.3g}{unit}" if number < size * 99.95 else f"{number / size:.0f}{unit}"
    return f"{number:.3g}" if number < 99.95 else f"{number:.0f}"


def time(us):
    return f"{us:.3g} us" if us < 999.5 else f"{us / 1000:.3g} ms" if us < 999500 else f"{us / 1e6:.3g} s"


def percent(fraction):
    return f"{100 * fraction:.0f}%"


def ratio_text(ratio, width=6):
    if not ratio:
        return " " * (width + 15)
    return f"{ratio['median']:{width}.2f}  {ratio['min']:5.2f}..{ratio['max']:<6.2f}"


def scenario_text(one):
    goal = f"floor {one['floor']:g}, aim {one['aim']:g}: {one['verdict']}" if one["verdict"] else ""
    lines = [f"{one['name']}: {one['title']}".ljust(62) + goal,
             f"  {one['unit']:26}     /s  ratio  min..max       cpu  ratio  busy  gen     p50     p99   p99.9"]
    for label, peer in one["peers"].items():
        cpu = peer["cpu_ratio"]
        lines.append(f"  {label + (', A/A' if label == one['base'] else ''):26}{short(peer['per_s']):>7} "
                     f"{ratio_text(peer['ratio'])}{time(peer['cpu_ns'] / 1000):>8} {cpu['median'] if cpu else 0:6.2f}"
                     f"{percent(peer['busy']):>6}{percent(peer['load_busy']):>5}"
                     + "".join(f"{time(peer[key]):>8}" for key in ["p50_us", "p99_us", "p999_us"]))
    return lines


def exact_text(counted):
    lines = []

    def rows(name, title, show):
        if name in counted:
            lines.extend(["", title])
            for label, one in counted[name].items():
                lines.append(f"  {label:26}" + (f"failed: {one['error']}" if "error" in one else show(one)))

    for depth, limits in [(1, "floor 2.05, aim 2.02"), (16, "floor 0.14, aim 0.13")]:
        rows(f"calls-{depth}", f"system calls a message, 50 connections, depth {depth}; {limits}",
             lambda one: f"{one['all']:6.3f}   " + ", ".join(f"{name} {n:.3f}" for name, n in one["each"].items()))
    rows("idle", "anonymous bytes an idle connection, clocks on at 19,000: floor 96, aim 48; wake-ups a second: floor 10, aim 1",
         lambda one: ", ".join(f"{int(count):,}: {size:.0f}" for count, size in one["bytes"].items())
         + f"; {one['wakes_per_s']:.1f} wake-ups")
    rows("queued", "bytes a recipient of a message of 256 that is kept for those who do not read; floor and aim 16",
         lambda one: f"{one['bytes']:.1f}, for {one['deaf']:,}")
    rows("start", "memory at start, bytes; floor 2 MB, aim 1.2 MB",
         lambda one: ", ".join(f"{key} {short(size)}" for key, size in one.items()))
    rows("stalled", "bytes one peer pins that never reads; floor 1 MB, aim 400 KB",
         lambda one: f"{short(one['all'])}: user {short(one['user'])}, kernel in {short(one['received'])}, out "
                     f"{short(one['to_send'])}, reserve {short(one['reserve'])}; it sent {short(one['sent'])}")
    if "size" in counted:
        lines += ["", f"stripped echo on the library, size profile: {counted['size']['oneloop']:,} bytes; floor 400 KB, aim 320 KB"]
    return lines


def text(run):
    lines = [f"{run['rounds']} rounds of {run['seconds']:g} s; " + "; ".join(f"{k} {v}" for k, v in run["host"].items()), ""]
    lines = wrapped(lines[0], 110) + [
        "", "ratio: to the first peer, by round: median and spread; of that peer: its first run to its second (A/A).",
        "cpu: of the server, a message. busy, gen: how much of the time server and client were on their processor.",
        "Where gen is 100 % and busy less, the client is the limit, and only cpu tells the servers apart.", ""]
    for one in run["scenarios"]:
        lines += scenario_text(one) + [""]
    for nuisance, of in run["tails"].items():
        name = {"bulk": "a bulk sender", "drip": "1,000 drippers"}[nuisance]
        lines.append(f"p99.9 beside {name} to p99.9 alone; floor 2, aim 1.2")
        lines += [f"  {label:26}{ratio_text(one)}" for label, one in of.items()] + [""]
    lines += exact_text(run["exact"])
    lines += [f"skipped: {label}: {why}" for label, why in run["skipped"].items()]
    lines += [f"error: {error}" for error in run["errors"]]
    return "\n".join(lines)


def wrapped(line, width):
    words, lines = line.split(" "), [""]
    for word in words:
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines
