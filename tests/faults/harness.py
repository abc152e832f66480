"""What the cases are made of: the server, who looks at it, and clients that misbehave.

Not run by itself: see run.py.
"""

import collections
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 20.0
# What others may wait, beside what the machine itself makes a plain echo wait.
P99_MS = 50.0
# CPU time in a window of IDLE_WINDOW that still counts as idle.
IDLE_WINDOW, IDLE_CPU = 0.2, 0.004
# Growth of the process that is no leak: the slab, and what malloc keeps.
RSS_SLACK = 6 << 20
OTHER_FIELDS = ("accepted", "open", "in", "out", "skipped")

# For replies that tell the time: each is as long as the first.
SAME_LENGTH = b"\0same length"

CASES = collections.OrderedDict()


class Failed(Exception):
    """The server did not do what the row asks for."""


class Skipped(Exception):
    """This machine lacks what the case needs."""


class Case:
    def __init__(self, name, title, act, reason, open):
        self.name, self.title, self.act = name, title, act
        self.reason, self.open = reason, open


def case(name, title, open=None):
    """Makes a function the case of a row. `open`: why it is known to fail, as
    docs/reliability.md tells."""
    def keep(act):
        CASES[name] = Case(name, title, act, None, open)
        return act
    return keep


def not_applicable(name, title, reason):
    CASES[name] = Case(name, title, None, reason, None)


def check(holds, text, *args):
    if not holds:
        raise Failed(text % args if args else text)


def until(what, done, patience=PATIENCE):
    """Looks until `done` is true of the server's outside (/proc), where nothing tells."""
    end = time.monotonic() + patience
    while True:
        value = done()
        if value:
            return value
        check(time.monotonic() < end, "not within %g s: %s", patience, what)
        select.select([], [], [], 0.01)


def pause(seconds):
    """For faults that are made of time: a drip, a stop."""
    select.select([], [], [], seconds)


def ahead_of_others(pid):
    """Else it is the machine's other work that is measured. Not everyone may. Where Linux
    groups processes by session, a priority counts among those of one session alone: so these
    are started in a session of their own, which is raised, too."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, -15)
        with open("/proc/%d/autogroup" % pid, "w") as file:
            file.write("-15")
    except OSError:
        pass


def raise_own_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = 20000 if hard == resource.RLIM_INFINITY else min(hard, 20000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def strace(*args):
    """The words to put before a command so that strace tampers with it. With -D the
    process that is started is the server, not strace."""
    if shutil.which("strace") is None:
        raise Skipped("no strace")
    return ["strace", "-D", "-f", "-qq", "-o", "/dev/null"] + list(args)


def inject(*what):
    return strace(*["-e" + "inject=" + one for one in what])


# ---- the server


class Server:
    """`oneloop serve`, its log, and what /proc says of it."""

    def __init__(self, binary, *flags, before=(), prepare=None, stderr=None, listen="127.0.0.1:0",
                 pass_fds=()):
        args = [*before, *self.command(binary, listen), *flags]
        self.lines, self.said = [], threading.Condition()
        # Streams of its log that go on.
        self.logs = 0
        self.process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=self.stdout(),
            stderr=stderr or subprocess.PIPE, preexec_fn=prepare, pass_fds=pass_fds,
            env=self.environment(), start_new_session=True)
        self.log = None if stderr else self.process.stderr
        self.pid = self.process.pid
        ahead_of_others(self.pid)
        self.host, self.port = "127.0.0.1", int(listen.rsplit(":", 1)[1])
        self.code, self.base = None, None
        if stderr is None:
            logs = [log for log in (self.process.stderr, self.process.stdout) if log]
            self.logs = len(logs)
            for log in logs:
                threading.Thread(target=self._listen, args=(log,), daemon=True).start()
            line = self.hear(r"listening on (\S+):(\d+)$")
            self.port = int(line.group(2))
        self.settled()

    def command(self, binary, listen):
        return [binary, "serve", "-l", listen]

    def stdout(self):
        return subprocess.DEVNULL

    def environment(self):
        return os.environ

    def _listen(self, log):
        for line in log:
            with self.said:
                self.lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self.said.notify_all()
        with self.said:
            self.logs -= 1
            self.said.notify_all()

    def hear(self, pattern, count=1, patience=PATIENCE):
        """Waits for lines in the log, and returns the match of the last."""
        found = []

        def there():
            found[:] = [m for m in (re.search(pattern, line) for line in self.lines) if m]
            return len(found) >= count or not self.logs

        with self.said:
            self.said.wait_for(there, patience)
        check(len(found) >= count, "the log never had %r: %s", pattern, self.lines[-5:])
        return found[count - 1]

    def heard(self, pattern):
        with self.said:
            return [line for line in self.lines if re.search(pattern, line)]

    def settled(self):
        """Remembers what it has when nobody is connected."""
        self.base = {"fds": self.fds(), "rss": self.rss()}

    # /proc

    def fds(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def rss(self):
        with open("/proc/%d/statm" % self.pid) as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def cpu(self):
        """Seconds on a processor so far."""
        with open("/proc/%d/schedstat" % self.pid) as file:
            return int(file.read().split()[0]) / 1e9

    def alive(self):
        return self.process.poll() is None

    def idle_after(self, patience=1.0):
        """Seconds until a window without work begins."""
        begun = time.monotonic()
        while True:
            start, cpu = time.monotonic(), self.cpu()
            pause(IDLE_WINDOW)
            used = self.cpu() - cpu
            if used < IDLE_CPU:
                return start - begun
            check(start - begun < patience, "busy for %.1f s after it: %.1f ms of CPU in %g s",
                  patience, used * 1000, IDLE_WINDOW)

    # clients

    def connect(self, source=None, rcvbuf=None, timeout=PATIENCE):
        client = socket.socket()
        client.settimeout(timeout)
        if rcvbuf:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(source)
        client.connect((self.host, self.port))
        return client

    def crowd(self, count, **kind):
        return [self.connect(**kind) for _ in range(count)]

    def ask(self, data, half_close=True):
        """Sends, finishes, and reads up to the end."""
        with self.connect() as client:
            return talk(client, data, half_close)

    # the end

    def tell(self, number):
        os.kill(self.pid, number)

    def stop(self, number=signal.SIGTERM, patience=PATIENCE):
        if self.code is None:
            self.tell(number)
            self.code = self.process.wait(patience)
        return self.code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def totals(self):
        """The numbers of the [TOTALS] line, by name."""
        words = self.hear(r"(\d+ accepted, .*)", patience=5).group(1)
        words = words.replace("messages ", "")
        return {name: int(number) for number, name in re.findall(r"(\d+) (\w+)", words)}


class Example(Server):
    """The example program `misbehaves`, which no signal ends in order, but a word does."""

    def command(self, binary, listen):
        path = os.path.join(os.path.dirname(binary), "examples", "misbehaves")
        if not os.path.exists(path):
            raise Skipped("no %s: cargo build --example misbehaves first" % path)
        return [path, listen]

    def stdout(self):
        return subprocess.PIPE

    def environment(self):
        # To name the functions of a panic takes 30 MB, which are kept.
        return dict(os.environ, RUST_BACKTRACE="0")

    def stop(self, patience=PATIENCE):
        if self.code is None:
            self.ask(b"stop\n")
            self.code = self.process.wait(patience)
        return self.code

    def totals(self):
        totals = super().totals()
        # Whoever asked for the end: its own, or the server's, whichever came first.
        asked = "shutdown" if totals.get("shutdown") else "peer_eof"
        totals[asked] -= 1
        totals["accepted"] -= 1
        return totals


class Control:
    """The control client of one server."""

    def __init__(self, server, request, reply, anew):
        self.anew = anew
        self.process = subprocess.Popen(
            [sys.executable, "-B", os.path.join(HERE, "control.py"), server.host,
             str(server.port), request.hex(),
             "" if reply == SAME_LENGTH else reply.hex(), *(["anew"] if anew else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        ahead_of_others(self.process.pid)
        line = self.process.stdout.readline()
        check(line == b"ready\n", "the control client cannot begin: %r", line)

    def report(self):
        try:
            self.process.stdin.close()
            asked = json.loads(self.process.stdout.readline())
            asked["calls"] = asked["asked"] + 1 if self.anew else 1
            return asked
        finally:
            self.process.wait(PATIENCE)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


# ---- clients


def talk(client, data, half_close=True):
    """Sends while it reads, so that neither side can block the other."""
    client.settimeout(PATIENCE)
    sender = threading.Thread(target=_send, args=(client, data, half_close), daemon=True)
    sender.start()
    got = read_all(client)
    sender.join(PATIENCE)
    return got


def _send(client, data, half_close):
    try:
        client.sendall(data)
        if half_close:
            client.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the server has closed: what it said is read


def read_all(client):
    got = bytearray()
    while True:
        data = client.recv(1 << 16)
        if not data:
            return bytes(got)
        got += data


def read_exactly(client, count):
    got = bytearray()
    while len(got) < count:
        data = client.recv(min(count - len(got), 1 << 16))
        check(data, "closed after %d of %d bytes", len(got), count)
        got += data
    return bytes(got)


def ends(client):
    """Whether the server's end is there by now or comes soon: FIN or RST."""
    try:
        return read_all(client) == b""
    except ConnectionError:
        return True


def rst(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def close_all(clients):
    for client in clients:
        client.close()


def answered(clients, want, patience=PATIENCE):
    """Waits until `want` of them have something to read, and returns all that do."""
    poll, by_fd = select.poll(), {}
    for client in clients:
        by_fd[client.fileno()] = client
        poll.register(client, select.POLLIN)
    ready, end = [], time.monotonic() + patience
    while len(ready) < want:
        left = end - time.monotonic()
        check(left > 0, "%d of %d were answered in %g s", len(ready), want, patience)
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            ready.append(by_fd[fd])
    return ready


def drip(client, data, every, stop):
    """A byte each `every` seconds, until the server closes or `stop` s are over.
    Returns how long after the first byte that was."""
    begun = time.monotonic()
    client.settimeout(PATIENCE)
    for index in range(1 << 30):
        check(time.monotonic() - begun < stop, "still open after %.1f s of dripping", stop)
        try:
            client.send(data[index % len(data):][:1])
        except ConnectionError:
            return time.monotonic() - begun
        if select.select([client], [], [], every)[0] and ends(client):
            return time.monotonic() - begun


def fill(client, data, patience=0.3):
    """Sends until the server takes no more; returns how much it took."""
    sent = 0
    client.settimeout(patience)
    try:
        while sent < len(data):
            sent += client.send(data[sent:sent + (1 << 16)])
    except (socket.timeout, ConnectionError):
        pass
    client.settimeout(60)
    return sent


# ---- framings


def u32be(message):
    return struct.pack(">I", len(message)) + message


def ascii8(message):
    return b"%08d" % len(message) + message


def line(message):
    return message + b"\n"


# ---- one run of a case


class Run:
    """What a case is given. It owns the servers, and judges them at the end."""

    def __init__(self, binary, long, folder):
        self.binary, self.long, self.folder = binary, long, folder
        # One that is not optimised takes a few times as long for a turn.
        self.unoptimised = os.path.basename(os.path.dirname(binary)) == "debug"
        self.p99_ms = 4 * P99_MS if self.unoptimised else P99_MS
        self.servers, self.controls = [], {}
        self.wanted, self.slack, self.expected_code = {}, {}, {}
        self.unjudged, self.idle_patience = set(), 1.0
        # How long the server stands still for everyone, in milliseconds.
        self.stands_still = {}

    def serve(self, *flags, control=line(b"control"), reply=None, kind=Server, **how):
        """Starts a server; with `control=None`, without a control client."""
        server = kind(self.binary, *flags, **how)
        self.servers.append(server)
        if control is not None:
            self.watch(server, control, reply)
        return server

    def watch(self, server, control=line(b"control"), reply=None, anew=False):
        """Has a control client ask from now on; `anew`, with a call for each question."""
        self.controls[server] = Control(server, control, reply or control, anew)

    def watch_ends(self, server):
        """Has a control client call, finish and wait for its end: for services whose replies
        are for others."""
        self.watch(server, b"", anew=True)

    def asked(self, server):
        """Ends the control client of a server that is about to end, and judges what it has
        met. Returns its report and the figures."""
        asked = self.controls.pop(server).report()
        check(asked["error"] is None, "%s", asked["error"])
        still = self.stands_still.get(server, 0)
        limit = still + self.p99_ms + asked["plain_p99"]
        text = "p99 %.1fms (plain %.1f), %d asked" % (
            asked["p99"], asked["plain_p99"], asked["asked"])
        if still:
            text += ", longest %.0fms of the %.0f it stood still" % (asked["max"], still)
        check(asked["max" if still else "p99"] < limit, "others waited: %s", text)
        return asked, text

    def closes(self, server, **reasons):
        """How many connections must have ended for which reason, beside the control's."""
        self.wanted[server] = reasons

    def help(self):
        done = subprocess.run([self.binary, "serve", "--help"], stdout=subprocess.PIPE)
        return done.stdout.decode()

    def judge_now(self, server):
        """For cases of many servers, one behind the other."""
        self.unjudged.add(server)
        return self._judge(server)

    def over(self, server):
        """The case has ended it itself, and has judged it."""
        self.unjudged.add(server)

    def judge(self):
        """What every case asserts. Returns the figures."""
        figures = []
        for server in self.servers:
            if server not in self.unjudged:
                figures.append(self._judge(server))
        return "; ".join(figures)

    def _judge(self, server):
        asked, told = None, ""
        if server in self.controls:
            asked, told = self.asked(server)
        check(server.alive(), "it ended: code %s, %s", server.process.returncode,
              server.lines[-3:])
        idle = server.idle_after(self.idle_patience)
        until("descriptors back to %d" % server.base["fds"],
              lambda: server.fds() <= server.base["fds"], 5)
        grown = server.rss() - server.base["rss"]
        slack = self.slack.get(server, RSS_SLACK)
        check(grown <= slack, "%d KiB more than before, allowed are %d", grown >> 10, slack >> 10)
        code = server.stop()
        check(code == self.expected_code.get(server, 0), "exit code %s", code)
        closed = self._balance(server, asked["calls"] if asked else 0)
        text = "idle %.1fs rss +%dK" % (idle, grown >> 10)
        return (told and told + ", ") + text + closed

    def _balance(self, server, calls):
        if server.log is None:
            return ""
        totals = server.totals()
        closed = {name: n for name, n in totals.items() if name not in OTHER_FIELDS}
        check(totals["open"] == 0, "still open: %s", totals)
        check(totals["accepted"] == sum(closed.values()), "out of balance: %s", totals)
        if "handler_panic" not in self.wanted.get(server, {}):
            bad = server.heard("panicked|RUST_BACKTRACE")
            check(not bad, "a panic: %s", bad)
        peers = collections.Counter(
            re.search(r"\[CLOSED\] (\S+): ", text).group(1)
            for text in server.heard(r"\[CLOSED\] 127"))
        twice = [peer for peer, count in peers.items() if count > 1]
        check(not twice or self.wanted.get(server, {}).get("again"), "closed twice: %s", twice)
        if calls:
            closed["peer_eof"] = closed.get("peer_eof", 0) - calls
        closed = {name: n for name, n in closed.items() if n}
        wanted = {name: n for name, n in self.wanted.get(server, {}).items() if name != "again"}
        if wanted:
            check(closed == wanted, "closed: %s, not %s", closed, wanted)
        return " " + " ".join("%s=%d" % pair for pair in sorted(closed.items()))

    def clean_up(self):
        for control in self.controls.values():
            control.kill()
        for server in self.servers:
            server.kill()
