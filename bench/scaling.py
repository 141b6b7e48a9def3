"""How `--workers` scales: one worker on a core against two on two, in turns, on the machine that also makes the load.

    python -m bench.scaling [--rounds 3] [--seconds 3]

The load and the upstream need processor too, and on a machine of two cores they take it from the workers.  So
requests a second say little alone; the processor time of all the proxy's processes for a request says whether
a second worker costs more than it brings, and that, with the cores that a machine has, what it may bring.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from bench.fleet import find_tools
from bench.plan import HERE, ROOT

UPSTREAM = 9177
CONNECTIONS = 64
# By name: workers, and the cores that they may use.
WAYS = {"1 worker, core 0": (1, "0"), "1 worker, both cores": (1, "0,1"), "2 workers, both cores": (2, "0,1")}


class Round(NamedTuple):
    """What one round gave."""

    rps: float
    cpu_us: float  # processor time of the proxy for a request, its parent's included
    p99_ms: float


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[None]:
    """The JSON case's nginx, on a port of its own."""
    config = (HERE / "nginx" / "upstream.conf").read_text().replace("127.0.0.1:9100", f"127.0.0.1:{UPSTREAM}")
    (folder / "upstream.conf").write_text(config)
    argv = [find_tools("nginx")["nginx"], "-p", f"{folder}/", "-e", "stderr", "-c", str(folder / "upstream.conf")]
    with subprocess.Popen(["taskset", "-c", "1", *argv], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def serving(folder: Path, name: str) -> Iterator[tuple[int, int]]:
    """The proxy; its two ports."""
    workers, cores = WAYS[name]
    policy = yaml.safe_load((HERE / "policy.yaml").read_text())
    policy["upstreams"]["bench"]["base_url"] = f"http://127.0.0.1:{UPSTREAM}"
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    argv = ["taskset", "-c", cores, sys.executable, "-m", "proxy", "serve", "--workers", str(workers)]
    argv += ["--policy", str(folder / "policy.yaml"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = None
            while found is None:
                found = re.search(r"data 127\.0\.0\.1:(\d+), admin 127\.0\.0\.1:(\d+)", process.stderr.readline())
            yield int(found[1]), int(found[2])
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()


def cpu_seconds(admin: int) -> float:
    """Processor time of all the proxy's processes until now, as its metrics tell it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        (value,) = re.findall(r"^process_cpu_seconds_total (\S+)", answer.read().decode(), re.MULTILINE)
    return float(value)


def measure(data: int, admin: int, seconds: int) -> Round:
    """One round of wrk, which shares core 1 with the upstream."""
    argv = ["taskset", "-c", "1", find_tools("wrk")["wrk"], "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    argv += ["-s", str(HERE / "wrk" / "post.lua"), f"http://127.0.0.1:{data}/v1/chat/completions"]
    before = cpu_seconds(admin)
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(admin) - before
    (line,) = [line for line in output.splitlines() if line.startswith("bench-result ")]
    result = json.loads(line.removeprefix("bench-result "))
    assert not any(result["errors"].values()), result
    requests = result["requests"]
    return Round(requests / result["duration_us"] * 1e6, spent / requests * 1e6, result["p99_us"] / 1e3)


def main() -> None:
    """Measure, and print a table of medians."""
    parser = argparse.ArgumentParser(description="how --workers scales")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    args = parser.parse_args()
    rounds: dict[str, list[Round]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder, upstream(Path(folder)), contextlib.ExitStack() as stack:
        ports = {}
        for number, name in enumerate(WAYS):
            place = Path(folder) / str(number)
            place.mkdir()
            ports[name] = stack.enter_context(serving(place, name))
            measure(*ports[name], 1)  # warm
        for number in range(args.rounds):
            for name in WAYS:
                time.sleep(0.2)
                rounds[name].append(measure(*ports[name], args.seconds))
            print(f"round {number + 1}: load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print(f"{'':24}{'requests/s':>24}{'CPU us/request':>24}{'p99 ms':>10}")
    for name, found in rounds.items():
        rps, cpu = ([getattr(each, field) for each in found] for field in ("rps", "cpu_us"))
        print(
            f"{name:24}{statistics.median(rps):10.0f} ({min(rps):.0f}-{max(rps):.0f})"
            f"{statistics.median(cpu):12.1f} ({min(cpu):.1f}-{max(cpu):.1f})"
            f"{statistics.median(each.p99_ms for each in found):10.1f}"
        )


if __name__ == "__main__":
    main()
