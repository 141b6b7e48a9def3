"""What a proxy leaves on the machine: its store, and nothing else; what it shows to other processes: no secret.

It is started isolated, `python -I -m proxy`, in a folder with modules that would break it if they were imported.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from proxy.stub import Stub
from tests.integration.asking import chat
from tests.support.served import serving, write_policy

SECRETS = {"SPLITLANE_ADMIN_TOKEN": "canary-of-the-token-1", "CANARY_KEY": "canary-of-the-key",
           "CANARY_KEY_OF_STORE": "canary-of-the-unit-key-at-least-32"}  # fmt: skip
TRAP = "raise SystemExit('a module of the working folder was imported')\n"


def below(folder: Path) -> dict[str, tuple[int, int]]:
    """All that is in a folder, with what changes when it is written."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")
    }


def family(pid: int) -> Iterator[Path]:
    """A process and those below it, in /proc."""
    yield Path(f"/proc/{pid}")
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def written_files(process: Path) -> set[Path]:
    """The regular files that a process has open for writing."""
    found = set()
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = descriptor.readlink()
            flags = int((process / "fdinfo" / descriptor.name).read_text().split("flags:")[1].split()[0], 8)
            if target.is_file() and flags & os.O_ACCMODE != os.O_RDONLY:
                found.add(target)
    return found


async def test_isolated_proxy_writes_to_its_data_folder_alone_and_shows_no_secret(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("cwd", "home", "tmp", "policy")}
    for folder in folders.values():
        folder.mkdir()
    cwd = folders["cwd"]
    for module in ("proxy", "json", "random", "sqlite3", "orjson", "sitecustomize"):
        (cwd / f"{module}.py").write_text(TRAP)
        (folders["home"] / f"{module}.py").write_text(TRAP)
    env = {
        **SECRETS, "HOME": str(folders["home"]), "TMPDIR": str(folders["tmp"]), "PYTHONPATH": str(folders["home"]),
        "XDG_CACHE_HOME": str(folders["home"]),
    }  # fmt: skip
    async with Stub() as stub:
        policy = write_policy(
            folders["policy"],
            stub.url,
            upstreams={"up": {"base_url": stub.url, "api_key": "${CANARY_KEY}"}},
            store={"url": "sqlite:///data/splitlane.db", "unit_key": "${CANARY_KEY_OF_STORE}"},
            prices={"*": {"input": 1, "output": 1}},
        )
        before = {name: below(folder) for name, folder in folders.items()}
        async with serving(policy, env, cwd, flags=("-I", "-B")) as proxy:
            async with proxy.client() as client:
                await client.send(chat())
                assert (await client.read_response()).status == 200
            for path in ("/", "/policy", "/metrics", "/health"):
                assert (await proxy.ask_admin(path)).status == 200, path
            processes = list(family(proxy.pid))
            assert len(processes) >= 2, "the store's writer is a process of its own"
            for process in processes:
                assert all(file.is_relative_to(cwd / "data") for file in written_files(process))
                command = (process / "cmdline").read_bytes() + (process / "comm").read_bytes()
                assert b"canary" not in command
                assert b"\0-I\0" in command
            proxy.terminate()
            assert await proxy.exit_code() == 0
        assert not [line for line in proxy.log if "Traceback" in line]
    after = {name: below(folder) for name, folder in folders.items()}
    grown = after["cwd"].keys() - before["cwd"].keys()
    assert {"data", "data/splitlane.db"} <= grown
    assert all(path.split("/")[0] == "data" for path in grown)
    for path in grown:
        after["cwd"].pop(path)
    assert after == before
