"""Reloads of a real process: under load, by signal, by file and over HTTP; real mounts; ACCEPTANCE 26."""

import asyncio
import json
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.policy.store import POLL, SETTLE, SETTLE_TRIES
from proxy.stub import Stub, StubConfig
from tests.integration.asking import chat
from tests.support.lane import eventually
from tests.support.served import Served, log_lines, serving, write_policy

TOKEN = {"SPLITLANE_ADMIN_TOKEN": "admin-token"}
# The longest a change may take to be noticed, without and with a busy machine's share.
NOTICED = POLL + SETTLE * SETTLE_TRIES
WITHIN = NOTICED + 1.5
# Mounts of its own for a process, that end with it: as root, or as root of a user namespace.
NAMESPACES = (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount"))


def hash_of(path: Path) -> str:
    """As `sha256sum` tells it: the name of a policy that stands alone."""
    return subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout[:12]


async def active(proxy: Served) -> str:
    return str(json.loads((await proxy.ask_admin("/policy")).body)["hash"])


async def becomes_active(proxy: Served, name: str) -> None:
    async with asyncio.timeout(WITHIN):
        while await active(proxy) != name:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def loaded(proxy: Served, seen: Counter[str], clients: int = 4) -> AsyncIterator[None]:
    """Keep-alive clients that ask without a pause; `seen` counts answers by policy.  Any failure fails the test."""
    over = False

    async def ask(number: int) -> None:
        async with proxy.client() as client:
            while not over:
                await client.send(chat(user=f"user-{number}"))
                answer = await client.read_response()
                assert answer.status == 200, answer
                seen[(answer.head.get(b"x-splitlane-policy") or b"").decode()] += 1

    asking = [asyncio.create_task(ask(number)) for number in range(clients)]
    try:
        yield
    finally:
        over = True
        await asyncio.gather(*asking)


def change(path: Path, number: int) -> str:
    """Replace the policy by renaming over it; returns its name."""
    fresh = path.with_name("fresh")
    fresh.write_text(f"{path.read_text()}# {number}\n")
    fresh.rename(path)
    return hash_of(path)


async def test_reloads_under_load_lose_no_request_however_they_are_asked_for(tmp_path: Path) -> None:
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url)
        seen: Counter[str] = Counter()
        names = [hash_of(path)]
        async with serving(path, TOKEN) as proxy:
            async with loaded(proxy, seen):
                await asyncio.sleep(0.2)
                for number in range(2):
                    names.append(change(path, number))
                    await becomes_active(proxy, names[-1])
                    await asyncio.sleep(0.1)
                for number in range(10, 20):
                    names.append(change(path, number))
                    proxy.terminate(signal.SIGHUP)
                    await becomes_active(proxy, names[-1])
                for number in range(20, 30):
                    names.append(change(path, number))
                    answer = await proxy.ask_admin("/policy/reload", "POST", "admin-token")
                    assert json.loads(answer.body)["hash"] == names[-1]
                    await asyncio.sleep(0.02)
                path.write_text("broken: [")
                proxy.terminate(signal.SIGHUP)
                await asyncio.sleep(NOTICED)
                assert await active(proxy) == names[-1]
            proxy.terminate()
            assert await proxy.exit_code() == 0
        assert seen.keys() == set(names)
        errors = [line["message"] for line in log_lines(proxy.log) if line["level"] == "error"]
        assert len(set(errors)) == 1
        assert len(errors) <= 2, "a bad content is told once, and once more to who asks"


async def test_without_a_token_in_the_environment_nobody_may_reload(tmp_path: Path) -> None:
    async with serving(write_policy(tmp_path, "http://127.0.0.1:1"), {"SPLITLANE_ADMIN_TOKEN": ""}) as proxy:
        for token in ("", "any"):
            answer = await proxy.ask_admin("/policy/reload", "POST", token)
            assert answer.status == 403
            assert "SPLITLANE_ADMIN_TOKEN" in json.loads(answer.body)["error"]["message"]


async def test_hangup_with_an_unchanged_file_is_survived_and_logged(tmp_path: Path) -> None:
    async with serving(write_policy(tmp_path, "http://127.0.0.1:1")) as proxy:
        proxy.terminate(signal.SIGHUP)
        async with asyncio.timeout(5):
            while "active already" not in "".join(proxy.log):
                await asyncio.sleep(0.01)
        assert (await proxy.ask_admin("/readyz")).status == 200


def warnings_of(proxy: Served) -> list[dict[str, Any]]:
    return [line for line in log_lines(proxy.log) if line["level"] == "warning"]


@asynccontextmanager
async def mounted(source: Path, target: Path, policy: Path) -> AsyncIterator[Served]:
    """The proxy in a mount namespace of its own, where `source` is mounted over `target`."""
    bind = ("mount", "--bind", str(source), str(target))
    tried = {
        space: subprocess.run([*space, *bind], capture_output=True, text=True, check=False) for space in NAMESPACES
    }
    allowed = [space for space, ended in tried.items() if ended.returncode == 0]
    if not allowed:
        pytest.fail(
            "this test mounts a directory in a namespace of its own, which this machine does not allow: "
            f"{[ended.stderr for ended in tried.values()]}.  Run it as root, or where user namespaces are allowed."
        )
    mount = ("sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh", str(source), str(target))
    async with serving(policy, wrapper=(*allowed[0], *mount)) as proxy:
        yield proxy


async def test_policy_in_a_mounted_directory_is_followed_without_a_warning(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    path = write_policy(source, "http://127.0.0.1:1")
    async with mounted(source, target, target / path.name) as proxy:
        for number in range(2):
            await becomes_active(proxy, change(path, number))
        assert "single file" not in "".join(proxy.log)


async def test_policy_mounted_as_a_single_file_is_warned_about_and_misses_what_replaces_it(tmp_path: Path) -> None:
    """As `subPath` does; in-place writes arrive, which is why a ConfigMap's swap is missed so quietly."""
    path = write_policy(tmp_path, "http://127.0.0.1:1")
    target = tmp_path / "mounted.yaml"
    target.touch()
    async with mounted(path, target, target) as proxy:
        told = json.loads((await proxy.ask_admin("/policy")).body)["warnings"][0]
        assert told["file"] == str(target)
        assert "updates of the ConfigMap never arrive" in told["expected"]
        await eventually(lambda: any(str(target) in line["message"] for line in warnings_of(proxy)))
        path.write_text(f"{path.read_text()}# in place\n")
        in_place = hash_of(path)
        await becomes_active(proxy, in_place)
        change(path, 1)
        await asyncio.sleep(NOTICED)
        assert await active(proxy) == in_place
