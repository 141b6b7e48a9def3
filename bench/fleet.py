"""The processes one case starts: pinned to a core, waited for, measured, and always ended.

Only processes started here are ever signalled.  Each has its own session, so that a Ctrl-C on the
terminal reaches the benchmark alone, which then ends them in order.
"""

import http.client
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from bench.plan import RUN, BenchError

READY_SECONDS = 20.0
STOP_SECONDS = 5.0  # long enough for an idle server to leave by itself; a measured one owes us no drain
CPU_CLOCK = 2  # CPUCLOCK_SCHED of Linux: a process's clock id is (~pid << 3) | 2


def find_tools(*names: str) -> dict[str, str]:
    """Paths of the named programs; raises one line naming the Debian packages of the missing ones."""
    packages = {"taskset": "util-linux", "node": "nodejs"}  # the others are called like their package
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # Debian's nginx is not in a user's PATH
    found = {name: shutil.which(name, path=path) for name in names}
    if missing := [packages.get(name, name) for name, where in found.items() if where is None]:
        raise BenchError(f"missing on this machine; install with: apt-get install {' '.join(missing)}", 2)
    return {name: where for name, where in found.items() if where is not None}


class Process:
    """One started process and what the kernel knows about it."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path, in_workers: bool) -> None:
        self.name = name
        self.popen = popen
        self.log = log
        self.in_workers = in_workers
        self.started = time.monotonic()

    def pids(self) -> list[int]:
        """The processes that do the work: the workers, or the process and what it has started."""
        pid = self.popen.pid
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return children if self.in_workers else [pid, *children]

    def cpu_ns(self) -> int:
        """User + system time so far, of all threads.

        The same sum as utime + stime in /proc/PID/stat, without rounding to ticks of 10 ms.
        """
        return sum(map(_cpu_ns, self.pids()))

    def own_cpu_ns(self) -> int:
        """The same of the process that was started, alone."""
        return _cpu_ns(self.popen.pid)

    def rss_kib(self) -> int:
        """VmRSS, in KiB; socket buffers live in the kernel and are not part of it."""
        total = 0
        for pid in self.pids():
            status = Path(f"/proc/{pid}/status").read_text()
            total += int(status.partition("VmRSS:")[2].split(maxsplit=1)[0])
        return total

    def check_alive(self) -> None:
        """Raise BenchError with the end of its log if the process has ended."""
        if (code := self.popen.poll()) is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise BenchError(f"{self.name} ended with exit code {code}; the end of {self.log}:\n{tail}")


def _cpu_ns(pid: int) -> int:
    return time.clock_gettime_ns((~pid << 3) | CPU_CLOCK)


def answers(url: str) -> Callable[[Process], bool]:
    """Ready when a GET of `url` gives 200."""
    parts = urlsplit(url)

    def ready(_process: Process) -> bool:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
        try:
            connection.request("GET", parts.path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def has_written(line: str) -> Callable[[Process], bool]:
    """Ready when the process has written `line`."""
    return lambda process: line in process.log.read_text(errors="replace").splitlines()


class Fleet:
    """Context manager that ends, in reverse order, everything it has started."""

    def __init__(self) -> None:
        self._running: list[Process] = []
        self._taskset = find_tools("taskset")["taskset"]
        RUN.mkdir(exist_ok=True)
        _raise_file_limit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, signal.SIG_IGN) for number in caught]  # a second Ctrl-C must not leak
        for process in reversed(list(self._running)):
            self.stop(process)
        for number, handler in zip(caught, before, strict=True):
            signal.signal(number, handler)

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        core: int,
        ready: Callable[[Process], bool],
        in_workers: bool = False,
        environment: Mapping[str, str] | None = None,
        within: float = READY_SECONDS,
    ) -> Process:
        """Start `argv` on `core` and wait until it is ready; its output goes to a log in the run folder.

        `environment` comes on top of our own.
        """
        process = self._spawn(name, argv, core, in_workers, environment or {})
        deadline = time.monotonic() + within
        while not ready(process):
            process.check_alive()
            if time.monotonic() > deadline:
                raise BenchError(f"{name} was not ready within {within:.0f} s; see {process.log}")
            time.sleep(0.005)
        process.check_alive()  # not ready through somebody else's server on the same port
        return process

    def run(self, name: str, argv: Sequence[str], *, core: int, timeout: float) -> str:
        """Run `argv` on `core` to its end and return its output; any other exit code than 0 raises."""
        process = self._spawn(name, argv, core, in_workers=False, environment={})
        try:
            code = process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{name} took longer than {timeout:.0f} s; see {process.log}") from None
        finally:
            self.stop(process)
        output = process.log.read_text(errors="replace")
        if code != 0:
            raise BenchError(f"{name} failed with exit code {code}:\n{output}")
        return output

    def check(self, but: Container[str] = ()) -> None:
        """Raise if any process has ended, of all `but` the named ones."""
        for process in self._running:
            if process.name not in but:
                process.check_alive()

    def stop_all(self, but: Process) -> None:
        """End all processes but one, the last started first."""
        for process in reversed(list(self._running)):
            if process is not but:
                self.stop(process)

    def stop(self, process: Process) -> None:
        """End a process: asked first, killed with its children when it does not listen."""
        popen = process.popen
        if popen.poll() is None:
            popen.terminate()
            try:
                popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(popen.pid, signal.SIGKILL)  # its own session: itself and what it started
                popen.wait()
        if process in self._running:
            self._running.remove(process)

    def _spawn(
        self, name: str, argv: Sequence[str], core: int, in_workers: bool, environment: Mapping[str, str]
    ) -> Process:
        log = RUN / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [self._taskset, "-c", str(core), *argv],  # taskset execs: the pid is the program's
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=RUN,
                env={**os.environ, **environment},
                start_new_session=True,
            )
            process = Process(name, popen, log, in_workers)
            self._running.append(process)
        return process


def _raise_file_limit() -> None:
    """Thousands of sockets: the soft limit up to the hard one; children inherit it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
