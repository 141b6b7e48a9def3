"""Perform the Dockerfile without a container engine, and live through a container's life in the result.

Each stage gets a root of its own in a mount namespace: the programs of a base system, read-only, and
besides them only what the Dockerfile puts there.  Its COPY, RUN, ENV, ARG, WORKDIR and USER lines are
carried out as they stand.  Then, as the image's user, without capabilities, with the whole tree read-only
but the volume, and in a network of its own: the ENTRYPOINT serves a policy, the HEALTHCHECK asks it,
the store is written to the volume, SIGTERM ends it with 0.

    sudo python3 deploy/image/rehearse.py                    # minutes: the request path is compiled
    sudo python3 deploy/image/rehearse.py --arg SPLITLANE_PURE=1
    sudo .venv/bin/python deploy/image/rehearse.py --installed
    sudo python3 deploy/image/rehearse.py --base /srv/trixie # another system's programs, such as debootstrap makes

What it does not show: that the base images can be had, and what an engine makes of the layers.
"""

import argparse
import ctypes
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
SYSTEM = ("bin", "etc", "lib", "lib64", "sbin", "usr")
# How this machine reaches a package index; another base system does not know it.
NETWORK = ("/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")
POLICY = """\
environment: rehearsal
upstreams: {nowhere: {base_url: "http://127.0.0.1:1", api_key: none}}
agents: {qa_agent: {fine_tuned: "ft:a", fallback: b}}
prices: {"*": {input: 1, output: 1}}
store: {url: "sqlite:///data/splitlane.db"}
"""


def say(*words: object) -> None:
    """A line of progress."""
    print(*words, flush=True)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions: the word, and the rest with its continuation lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a path out; the last pattern that fits decides."""
    out = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        anywhere = bare.removeprefix("**/")
        parts = path.split("/")
        prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        fits = any(fnmatch(part, anywhere) for part in parts) if anywhere != bare else False
        if fits or any(fnmatch(prefix, bare) and prefix.count("/") == bare.count("/") for prefix in prefixes):
            out = not pattern.startswith("!")
    return out


def ignore_patterns() -> list[str]:
    """The patterns of .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


class Stage:
    """A root with a base system's programs, and nothing else yet."""

    def __init__(self, root: Path, base: Path, arguments: Mapping[str, str]) -> None:
        """Mounts are seen in this process's namespace only, and end with it."""
        self.root = root
        self.arguments = dict(arguments)
        self.env: dict[str, str] = {}
        self.folder = "/"
        self.user = "0:0"
        self.said: dict[str, str] = {}
        root.mkdir()
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root))
        for name in SYSTEM:
            source = base / name
            if source.is_symlink():
                (root / name).symlink_to(source.readlink())
            elif source.is_dir():
                (root / name).mkdir()
                mount("--rbind", str(source), str(root / name))
                mount("-o", "remount,bind,ro", str(root / name))
        for name in NETWORK if base != Path("/") else ():
            mount("--bind", name, f"{root}{name}")
        for name in ("dev", "proc"):
            (root / name).mkdir()
            mount("--rbind", f"/{name}", str(root / name))
        (root / "tmp").mkdir(mode=0o1777)
        (root / "tmp").chmod(0o1777)

    def expand(self, text: str) -> str:
        """`${NAME}` and `$NAME` of ARG and ENV."""
        known = {**self.arguments, **self.env}
        return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda found: known.get(found[1] or found[2], found[0]), text)

    def inside(self, command: list[str]) -> list[str]:
        """The command line that does it inside, as the stage's user."""
        uid, _, gid = self.user.partition(":")
        dropped = [] if uid == "0" else ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *dropped, "--"]
        return ["/usr/sbin/chroot", str(self.root), *user, "env", "-C", self.folder, *command]

    def environment(self) -> dict[str, str]:
        """What a process inside gets: the image's, and how this machine reaches the package index."""
        kept = {
            name: value for name, value in os.environ.items() if name.startswith("PIP_") or "_proxy" in name.lower()
        }
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", **kept, **self.env}

    def ask(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run to its end, inside, whatever that is."""
        return subprocess.run(self.inside(command), env=self.environment(), capture_output=True, text=True, check=False)


def mount(*arguments: str) -> None:
    """mount(8); raises CalledProcessError."""
    subprocess.run(("mount", *arguments), check=True)


def copy(stage: Stage, words: list[str], source: Path, patterns: list[str]) -> None:
    """COPY: files and folders, without what is ignored; a folder's content goes into the target."""
    *sources, target = words
    into = stage.root / Path(stage.folder, target).relative_to("/")
    for name in sources:
        path = source / name.lstrip("/")
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                relative = file.relative_to(source).as_posix()
                goal = into / file.relative_to(path)
                if (file.is_dir() and not file.is_symlink()) or (patterns and ignored(relative, patterns)):
                    continue
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, goal, follow_symlinks=False)
        else:
            if patterns and ignored(name, patterns):
                raise SystemExit(f"COPY {name}: .dockerignore keeps it out")
            goal = into / path.name if target.endswith("/") else into
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, goal)


def bring(stage: Stage) -> None:
    """In place of what was built: the environment that runs this, and its checkout, under their own paths."""
    for path in (Path(sys.base_prefix), ROOT, Path(sys.prefix)):
        goal = stage.root / path.relative_to("/")
        if not goal.exists():
            goal.mkdir(parents=True)
            mount("--bind", str(path), str(goal))
            mount("-o", "remount,bind,ro", str(goal))
    stage.env["PATH"] = f"{sys.prefix}/bin:{stage.env['PATH']}"


def build(work: Path, base: Path, given: Mapping[str, str], *, installed: bool) -> Stage:
    """Carry out the Dockerfile, or with `installed` its last stage alone; that stage."""
    stages: dict[str, Stage] = {}
    outer: dict[str, str] = {}
    stage: Stage | None = None
    lines = list(instructions((ROOT / "Dockerfile").read_text()))
    if installed:
        last = max(number for number, (word, _) in enumerate(lines) if word == "FROM")
        lines = [line for line in lines[last:] if line[0] != "COPY"]
    for word, rest in lines:
        began = time.monotonic()
        if word == "ARG":
            name, _, default = rest.partition("=")
            (outer if stage is None else stage.arguments)[name] = given.get(name, default)
            continue
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "final"
            stage = stages[name] = Stage(work / name, base, {})
            say(f"{word} {rest}: here, the programs of {base}")
            continue
        assert stage is not None
        if word == "ENV":
            stage.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word == "COPY":
            words = rest.split()
            origin = stages[words.pop(0).removeprefix("--from=")].root if rest.startswith("--from=") else ROOT
            copy(stage, words, origin, ignore_patterns() if origin is ROOT else [])
        elif word == "RUN":
            subprocess.run(stage.inside(["/bin/sh", "-c", stage.expand(rest)]), env=stage.environment(), check=True)
        else:
            stage.said[word] = rest
            continue
        say(f"{word} {' '.join(rest.split())[:100]}   {time.monotonic() - began:.1f} s")
    assert stage is not None
    if installed:
        bring(stage)
    return stage


def own_network() -> None:
    """A network namespace for this process, with nothing but a loopback device; raises OSError."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "no network namespace")
    with socket.socket() as any_socket:
        up = struct.pack("16sh14x", b"lo", 0x41)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS


def live(stage: Stage) -> None:
    """A container's life: start, health, the end.  Raises AssertionError."""
    own_network()
    volume = stage.said["VOLUME"]
    (stage.root / "etc-splitlane").mkdir()
    (stage.root / "etc-splitlane/policy.yaml").write_text(POLICY)
    kept = stage.root / volume.lstrip("/")
    mount("--bind", str(kept), str(kept))
    mount("-o", "remount,bind,ro", str(stage.root))
    entry = json.loads(stage.said["ENTRYPOINT"])
    probe = json.loads(stage.said["HEALTHCHECK"].partition("CMD ")[2])
    for refused in ("/x", "/opt/splitlane/x", "/tmp/x", "/usr/x"):
        tried = stage.ask(["touch", refused])
        assert tried.returncode != 0, f"{refused} can be written"
    command = [*entry, *json.loads(stage.said["CMD"]), "--policy", "/etc-splitlane/policy.yaml"]
    served = subprocess.Popen(stage.inside(command), env=stage.environment())
    try:
        for question in (probe, [*probe, "--ready"], [*probe, "--agent", "qa_agent"]):
            assert within(30, partial(well, stage, question)), question
            say("health:", stage.ask(question).stdout.strip())
        owner = Path(f"/proc/{served.pid}/status").read_text()
        say("user:", re.search(r"Uid:\s+(\d+)", owner)[1], "capabilities:", re.search(r"CapEff:\s+(\w+)", owner)[1])  # type: ignore[index]
        assert within(10, (kept / "data/splitlane.db").exists), "no store in the volume"
        began = time.monotonic()
        served.send_signal(getattr(signal, stage.said["STOPSIGNAL"]))
        assert served.wait(30) == 0, f"exit code {served.returncode}"
        say(f"SIGTERM: exit code 0 after {time.monotonic() - began:.1f} s")
        assert stage.ask(probe).returncode == 1
    finally:
        if served.poll() is None:
            served.kill()
            served.wait()


def well(stage: Stage, question: list[str]) -> bool:
    """What the engine asks of a HEALTHCHECK."""
    return stage.ask(question).returncode == 0


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold."""
    until = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.1)
    return held


def main() -> int:
    """Exit codes: 0 it works; 1 it does not; 2 not root."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("/"), help="the system whose programs are used (default: /)")
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="a build argument")
    parser.add_argument("--installed", action="store_true",
                        help="the last stage alone, on the environment that runs this")  # fmt: skip
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("only root may mount: sudo", file=sys.stderr)
        return 2
    if "REHEARSAL" not in os.environ:  # once more, where nobody else sees the mounts
        os.environ["REHEARSAL"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    work = Path(tempfile.mkdtemp(prefix="splitlane-image-"))
    work.chmod(0o755)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(work))
    try:
        live(build(work, args.base, dict(pair.split("=", 1) for pair in args.arg), installed=args.installed))
    finally:
        os.chdir("/")
        subprocess.run(("umount", "--recursive", "--lazy", str(work)), check=False)
        work.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
