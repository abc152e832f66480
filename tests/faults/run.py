"""Every fault of the catalogue, on real sockets, against the built program.

    python3 tests/faults/run.py --list
    python3 tests/faults/run.py F07 F31          # these rows
    python3 tests/faults/run.py all              # all that apply; about three minutes
    python3 tests/faults/run.py --long all       # with the real clocks, and the long soak
    python3 tests/faults/run.py --quick all      # without the rows that take longest

Standard library only. The program is --binary, or the newer one of debug and release in
CARGO_TARGET_DIR (default: target); F40 runs the example `misbehaves` beside it. Each case starts a server with default limits, except
where its row says otherwise, and beside what the row asks for asserts:

- a control client is answered with p99 < 50 ms while it happens (and what a plain echo of
  its own took beside it, which is the machine's part); 200 ms by a debug build; where the
  whole process stands still, it is answered that soon behind;
- the CPU is idle within a second after;
- descriptors are back where they were, and memory but for a slack of 6 MiB;
- accepted = closed by all reasons, each connection once, by the [TOTALS] line;
- no panic, and exit code 0 after SIGTERM.

One line a case: ok, FAIL, skipped (this machine or this program lacks something), n.a. (the
row does not apply to the program, and why) or open (a fault that is known and told in
docs/reliability.md). Exits with 1 if one failed.
"""

import argparse
import errno
import os
import shutil
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True

import harness
from harness import CASES, Failed, Run, Skipped
import accepting, endings, slow, lengths, sizing, layers_above, process  # noqa: E401,F401

# The rows that take longest, or most descriptors, and that --quick leaves out.
SLOW_ROWS = {"F20", "F30", "F31", "F32", "F33", "F35", "F36", "F47", "F49", "F89", "F90", "F91"}


def find_binary(named):
    if named:
        return os.path.abspath(named)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    built = [os.path.join(target, kind, "oneloop") for kind in ("debug", "release")]
    built = [path for path in built if os.path.exists(path)]
    if not built:
        sys.exit("no oneloop in %s: cargo build first, or --binary PATH" % target)
    return os.path.abspath(max(built, key=os.path.getmtime))


def chosen(names, quick):
    if names in ([], ["all"]):
        return [case for name, case in CASES.items() if not (quick and name in SLOW_ROWS)]
    unknown = [name for name in names if name not in CASES]
    if unknown:
        sys.exit("no such rows: %s; --list has them" % " ".join(unknown))
    return [CASES[name] for name in names]


def where(why):
    """An exception in one line, and the two calls that led there."""
    calls = traceback.extract_tb(why.__traceback__)[-2:]
    places = ["%s:%d" % (os.path.basename(call.filename), call.lineno) for call in calls]
    return "%s: %s (%s)" % (type(why).__name__, why, " ".join(places))


def run_one(case, binary, long):
    """The word and the text of its line."""
    if case.reason:
        return "n.a.", case.reason
    folder = tempfile.mkdtemp()
    run = Run(binary, long, folder)
    try:
        told = case.act(run) or ""
        return "ok", "; ".join(text for text in (told, run.judge()) if text)
    except Skipped as why:
        return "skipped", str(why)
    except Failed as why:
        return "FAIL", str(why)
    except OSError as why:
        if why.errno == errno.EMFILE:
            return "skipped", "this machine allows too few descriptors"
        return "FAIL", where(why)
    except Exception as why:  # a client that was closed, say: it belongs to this case alone
        return "FAIL", where(why)
    finally:
        run.clean_up()
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--binary")
    args = parser.parse_args()
    cases = chosen(args.rows, args.quick)
    if args.list:
        for case in cases:
            print("%s  %s%s" % (case.name, case.title, case.reason and " (n.a.)" or ""))
        return
    harness.raise_own_limit()
    binary, failed = find_binary(args.binary), 0
    for case in cases:
        begun = time.monotonic()
        word, text = run_one(case, binary, args.long)
        if word == "FAIL" and case.open:
            word, text = "open", "%s (%s)" % (case.open, text)
        failed += word == "FAIL"
        took = time.monotonic() - begun
        print("%s %-7s %5.1fs  %s: %s" % (case.name, word, took, case.title, text), flush=True)
    print("%d cases, %d failed" % (len(cases), failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
