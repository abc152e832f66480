"""How many of the planted bugs the tests find.

    python3 tests/planted/score.py               # all: about twenty minutes
    python3 tests/planted/score.py f27 08-       # those whose names begin like this
    python3 tests/planted/score.py --no-real     # without real sockets
    python3 tests/planted/score.py --list

Standard library, cargo and git; it works on a copy of the tree, in a folder of its own.

Each *.patch beside this file brings one bug back. Its first lines say which, and where it
is looked for:

    # row 6: a short read with a FIN behind it is taken for the last
    # Suites: --test budget              beside those that every bug is shown to; several: a; b
    # Real: tests/faults/run.py F17      or: cargo test --test real_sockets NAME
    # Real: cannot, because ...          no peer and no system call can bring it about

A bug is killed by the first suite that fails, or that hangs; and once more by the test on
real sockets, where there is one. All of these pass without the bug, or nothing is counted.
A patch that does not apply, or does not build, is a failure and no kill. Exits with 1 if a
bug survives.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# The fastest first: what they find need not be looked for by the others.
SUITES = ["--lib", "--test scripted_kernel", "--test survivors", "--test simulation"]
SUITE_SECONDS = 90
REAL_SECONDS = 300
BUILD_SECONDS = 1200


class Failed(Exception):
    pass


class Bug:
    def __init__(self, file):
        self.name = file[: -len(".patch")]
        self.path = os.path.join(HERE, file)
        self.title, self.suites, self.real = None, [], None
        for line in open(self.path, encoding="utf-8"):
            if not line.startswith("# "):
                break
            text = line[2:].strip()
            if text.startswith("Suites: "):
                self.suites = [suite.strip() for suite in text[8:].split(";")]
            elif text.startswith("Real: "):
                self.real = text[6:]
            else:
                self.title = text
        if not self.title or not self.real:
            sys.exit("%s: the first lines say what it is, and Real:" % file)

    def is_real(self):
        return not self.real.startswith("cannot")


class Tree:
    """A copy of the source, to spoil."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "tree")
        skipped = shutil.ignore_patterns(".git", "target", "__pycache__", "planted")
        # As new files: cargo goes by their time, and the last bug of the last run was built.
        shutil.copytree(ROOT, self.folder, ignore=skipped, copy_function=shutil.copy)
        self.env = dict(os.environ, CARGO_TARGET_DIR=os.path.join(folder, "target"))
        # Optimised a little: the suites take a tenth of the time, and building twice.
        self.env.update(CARGO_PROFILE_DEV_OPT_LEVEL="1", CARGO_PROFILE_DEV_DEBUG="0")
        self.binary = os.path.join(folder, "target", "debug", "oneloop")

    def patch(self, bug, *how):
        command = ["git", "apply", "-C1", *how, bug.path]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed("does not apply: " + done.stderr.strip().splitlines()[0])

    def run(self, command, seconds):
        """Its exit code, None if it hangs, and what it printed."""
        child = subprocess.Popen(command, cwd=self.folder, env=self.env, text=True,
                                 errors="replace", stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 start_new_session=True)
        try:
            said, _ = child.communicate(timeout=seconds)
            return child.returncode, said
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            said, _ = child.communicate()
            return None, said

    def build(self, command):
        code, said = self.run(command, BUILD_SECONDS)
        if code != 0:
            errors = [line for line in said.splitlines() if line.startswith("error")]
            raise Failed("does not build: " + (errors or ["no word of why"])[0])

    def test(self, what, seconds):
        """None if it passes, else how it failed."""
        words = what.split()
        if words[0] == "tests/faults/run.py":
            self.build(["cargo", "build", "-q", "--bin", "oneloop"])
            command = [sys.executable, "-B", words[0], "--binary", self.binary, *words[1:]]
        else:
            if "examples" in words:
                self.build(["cargo", "build", "-q", "--examples"])
            self.build(["cargo", "test", "-q", *words, "--no-run"])
            command = ["cargo", "test", "-q", *words]
        code, said = self.run(command, seconds)
        if code is None:
            return "hangs"
        lines = said.splitlines()
        if code == 0:
            if any(line.split()[1:2] == ["skipped"] for line in lines):
                raise Failed("%s: skipped on this machine" % what)
            if words[0] != "tests/faults/run.py" and "running 0 tests" in said \
                    and said.count("running 0 tests") == said.count("running "):
                raise Failed("%s: there is no such test" % what)
            return None
        failed = [line.strip() for line in lines if "FAIL" in line.split()[1:2]
                  or line.startswith("    ") and "::" in line or line.startswith("---- ")]
        return failed[0].replace("---- ", "").replace(" stdout ----", "") if failed else "fails"


def real_test(bug):
    return bug.real.removeprefix("cargo test ")


def name_of(what):
    """Of a suite, without the tests in it."""
    words = what.split()
    return words[0].lstrip("-") if len(words) < 2 or words[0] == "--lib" else words[1]


def judge(tree, bug, real):
    """By what it was killed, and by what on real sockets; None where it survives."""
    tree.patch(bug)
    try:
        killer = None
        for suite in SUITES + bug.suites:
            how = tree.test(suite, SUITE_SECONDS)
            if how:
                killer = "%s: %s" % (name_of(suite), how)
                break
        seen = None
        if real and bug.is_real():
            how = tree.test(real_test(bug), REAL_SECONDS)
            seen = how and "%s: %s" % (name_of(real_test(bug)), how)
        return killer, seen
    finally:
        tree.patch(bug, "-R")


def check_all_pass(tree, bugs, real):
    """What fails without a bug says nothing of one."""
    tests = set(SUITES).union(*(bug.suites for bug in bugs))
    if real:
        tests |= {real_test(bug) for bug in bugs if bug.is_real()}
    for what in sorted(tests):
        how = tree.test(what, REAL_SECONDS)
        if how:
            raise Failed("without any bug, %s: %s" % (what, how))


def short(text, width):
    return text if len(text) <= width else text[: width - 3] + "..."


def score(tree, bugs, real):
    check_all_pass(tree, bugs, real)
    killed = seen = 0
    for bug in bugs:
        began = time.monotonic()
        try:
            killer, on_real = judge(tree, bug, real)
        except Failed as why:
            print("%-32s FAILED: %s" % (bug.name, why), flush=True)
            continue
        killed += killer is not None
        seen += on_real is not None
        if not bug.is_real():
            on_real = "cannot"
        elif not real:
            on_real = "not run"
        print("%-32s %-62s %-62s %3.0f s" % (
            bug.name, short(killer or "SURVIVES", 62), short(on_real or "SURVIVES", 62),
            time.monotonic() - began), flush=True)
    can = sum(bug.is_real() for bug in bugs) if real else 0
    print("killed %d of %d; on real sockets %d of %d" % (killed, len(bugs), seen, can))
    return killed == len(bugs) and seen == can


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--no-real", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--folder", help="keep the copy and what is built here, for the next run")
    args = parser.parse_args()
    bugs = [Bug(file) for file in sorted(os.listdir(HERE)) if file.endswith(".patch")]
    if args.names:
        bugs = [bug for bug in bugs if bug.name.startswith(tuple(args.names))]
    if args.list or not bugs:
        for bug in bugs:
            print("%-32s %s\n%34s%s" % (bug.name, bug.title, "", bug.real))
        return 0 if bugs else "no such bug"
    folder = args.folder or tempfile.mkdtemp(prefix="planted-")
    os.makedirs(folder, exist_ok=True)
    shutil.rmtree(os.path.join(folder, "tree"), ignore_errors=True)
    try:
        return 0 if score(Tree(folder), bugs, not args.no_real) else 1
    except Failed as why:
        return str(why)
    finally:
        if not args.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
