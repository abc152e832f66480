"""The servers of ../versus.py: how each is built and started, and what it takes."""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PEERS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(PEERS))
TARGET = os.path.abspath(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")))
OUT = os.path.join(TARGET, "versus")
BUILT = os.path.join(OUT, "peers")
SMALL = os.path.join(BUILT, "small", "small")
LOAD = os.path.join(OUT, "load")

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "ok\\n"; }} }}
}}
"""


class Missing(Exception):
    """A peer is not installed here."""


def build(oneloop):
    """Builds everything; `oneloop` is a program to use instead of building it."""
    os.makedirs(OUT, exist_ok=True)
    for name in ["epoll_serve", "load"]:
        source = os.path.join(PEERS, name + ".c")
        subprocess.run(["cc", "-O3", "-Wall", "-o", os.path.join(OUT, name), source], check=True)
    if not oneloop:
        subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "oneloop"], check=True, cwd=ROOT)
    elsewhere = dict(os.environ, CARGO_TARGET_DIR=BUILT)
    for what in [["--release", "-p", "peers"], ["--profile", "small", "-p", "small"]]:
        subprocess.run(["cargo", "build", "--locked", *what], check=True, cwd=PEERS, env=elsewhere)


class Servers:
    """The command of each server, by name."""

    def __init__(self, oneloop):
        self.program = oneloop or os.path.join(TARGET, "release", "oneloop")
        self.folder = tempfile.mkdtemp(prefix="versus-")

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, name, port, *args):
        return getattr(self, name)(str(port), *args)

    def raw(self, port, kind="lines", *send_buffer):
        return [os.path.join(OUT, "epoll_serve"), port, kind, *send_buffer]

    def oneloop(self, port, *flags):
        return [self.program, "serve", "-l", "127.0.0.1:" + port, *flags]

    def small(self, port):
        return [SMALL, port]

    def tokio(self, port, kind):
        return [os.path.join(BUILT, "release", "tokio_echo"), port, kind]

    def mio(self, port):
        return [os.path.join(BUILT, "release", "mio_echo"), port]

    def message_io(self, port):
        return [os.path.join(BUILT, "release", "message_io"), port]

    def asyncio(self, port):
        # Not what a wrapper finds: the process that is started has to be the one measured.
        python = subprocess.run(["python3", "-c", "import sys; print(sys.executable)"],
                                check=True, capture_output=True, text=True).stdout.strip()
        return [python, os.path.join(PEERS, "asyncio_echo.py"), port]

    def redis(self, port):
        return [installed("redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", self.folder, "--protected-mode", "no"]

    def nginx(self, port):
        path = os.path.join(self.folder, port + ".conf")
        with open(path, "w") as file:
            file.write(NGINX.format(folder=self.folder, port=port))
        return [installed("nginx"), "-p", self.folder, "-c", path, "-e", "/dev/null"]


def installed(program):
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if not path:
        raise Missing(f"{program} is not installed")
    return path


def pinned(cpu):
    return {"preexec_fn": lambda: os.sched_setaffinity(0, {cpu})}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(servers, name, *args, before=()):
    """A server that listens, as (process, port). `before` goes before its command."""
    port = free_port()
    command = [*before, *servers.command(name, port, *args)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True, **pinned(SERVER_CPU))
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{' '.join(command)} does not listen") from None
                time.sleep(0.005)
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def load_command(mode, port, **settings):
    return [LOAD, mode, f"port={port}", *(f"{key}={value}" for key, value in settings.items())]


def status(pid):
    """What /proc/PID/status says in numbers, sizes in bytes."""
    with open(f"/proc/{pid}/status") as file:
        lines = re.findall(r"^(\w+):\s+(\d+)( kB)?$", file.read(), re.M)
    return {key: int(value) * (1024 if unit else 1) for key, value, unit in lines}


def cpu_ticks(pid):
    """Time on a processor, in ticks."""
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))


def versions(servers):
    """What was compared, and where."""
    def version(*command):
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            found = re.search(r"\d+\.\d+(\.\d+)?", (done.stdout or done.stderr).split("\n")[0])
            return found.group() if found else "unknown"
        except OSError:
            return "not installed"

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                            cwd=ROOT).stdout.strip()
    with open(os.path.join(PEERS, "Cargo.lock")) as file:
        locked = dict(re.findall(r'name = "(tokio|tokio-util|message-io)"\nversion = "(.+)"', file.read()))
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    return {
        "commit": commit, "kernel": os.uname().release, "cpu": model.group(1) if model else os.uname().machine, "cpus": len(CPUS),
        "cc": version("cc", "--version"), "rustc": version("rustc", "--version"), **locked,
        "redis": version("redis-server", "--version"), "nginx": version("/usr/sbin/nginx", "-v"),
        "python": version("python3", "--version"),
    }
