"""Hot reload: the policy's files are followed, and a new policy is swapped in whole.

Two ways lead to a changed file.  The folders are watched, not the files: a Kubernetes ConfigMap swaps a
link beside them, and a watch on a file misses the second swap.  And the contents are compared every
`POLL` seconds, because mounts and network file systems do not tell of every change.  Files are read
on threads: where a file system hangs, requests are served on.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from watchfiles import awatch

from proxy.policy.load import LoadedPolicy
from proxy.policy.problems import PolicyError, PolicyProblem
from proxy.policy.store import PolicyStore, Reload
from proxy.tasks import blocking, spawn

log = logging.getLogger("splitlane.policy")

# How often contents are compared.  A reader of five kilobytes a second is not to be seen.
POLL = 1.0
# A writer may be in the middle of a file: its content counts once it is the same twice, this far apart.
SETTLE = 0.05
# … and at the latest after so many looks: what is written for ever is judged all the same.
SETTLE_LOOKS = 20
# How long events of a folder are gathered, milliseconds.
GATHER = 50

MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Reloader:
    """Keeps a store up to date.  `swap(old, new)` is called in the loop, once per new policy."""

    def __init__(self, store: PolicyStore, swap: Callable[[LoadedPolicy, LoadedPolicy], None]) -> None:
        self.store = store
        self._swap = swap
        self._one_at_a_time = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._watched: frozenset[Path] = frozenset()
        self._watch: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the files from now on."""
        for warning in (*self.store.active.warnings, *single_file_mounts(self.store.files)):
            log.warning("%s", warning)
        self._following = spawn(self._follow(), "policy files")

    def stop(self) -> None:
        """Follow them no longer."""
        for task in (self._following, self._watch):
            if task is not None:
                task.cancel()

    async def reload(self) -> Reload:
        """Judge the files as they are now."""
        async with self._one_at_a_time:
            store = self.store
            before = store.active
            try:
                loaded = await blocking(store.read, "policy read")
            except PolicyError as error:
                outcome = store.refuse(error)
            else:
                outcome = store.accept(loaded)
            if outcome.problems:
                log.error("policy not reloaded, %s stays active: %s", before.policy.hash, _summary(outcome.problems))
            elif outcome.changed:
                self._swap(before, store.active)
                log.info("policy reloaded: %s -> %s", before.policy.hash, store.active.policy.hash)
                for warning in store.active.warnings:
                    log.warning("%s", warning)
            return outcome

    async def _follow(self) -> None:
        while True:
            fingerprint, folders = await blocking(self._look, "policy poll")
            self._watch_folders(folders)
            if not self.store.is_judged(fingerprint):
                await self._wait_for_the_writer(fingerprint)
                try:
                    await self.reload()
                except Exception:
                    log.exception("policy files could not be judged")
            try:
                async with asyncio.timeout(POLL):
                    await self._stirred.wait()
            except TimeoutError:
                pass
            self._stirred.clear()

    def _look(self) -> tuple[bytes, frozenset[Path]]:
        """The files' fingerprint, and the folders they are in: by their names, and where links lead."""
        files = self.store.files
        folders = {parent for file in files for parent in (file.parent.absolute(), file.resolve().parent)}
        return self.store.fingerprint(), frozenset(filter(Path.is_dir, folders))

    async def _wait_for_the_writer(self, fingerprint: bytes) -> None:
        for _ in range(SETTLE_LOOKS):
            await asyncio.sleep(SETTLE)
            previous, fingerprint = fingerprint, await blocking(self.store.fingerprint, "policy settle")
            if fingerprint == previous:
                return

    def _watch_folders(self, folders: frozenset[Path]) -> None:
        """Watch where the files are now: they may have moved, or their folder may have come back."""
        if folders == self._watched and self._watch is not None and not self._watch.done():
            return
        if self._watch is not None:
            self._watch.cancel()
        self._watched = folders
        self._watch = spawn(self._watch_events(folders), "policy folders")

    async def _watch_events(self, folders: frozenset[Path]) -> None:
        events = awatch(*folders, watch_filter=None, recursive=False, debounce=2 * GATHER, step=GATHER)
        try:
            async for _ in events:
                self._stirred.set()
        except OSError as error:  # no more watches to be had, or the folder went
            log.debug("policy folders are not watched: %s", error)


def _summary(problems: tuple[PolicyProblem, ...]) -> str:
    more = f" (and {len(problems) - 1} more; see /policy)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"


def single_file_mounts(files: Iterable[Path]) -> tuple[PolicyProblem, ...]:
    """Warnings of files that are mount points themselves, as a Kubernetes `subPath` makes them.

    Such a mount holds on to one file: one that replaces it, as every update of a ConfigMap does, never shows.
    """
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return ()  # not Linux
    points = {_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), line.split(" ")[4]) for line in lines}
    return tuple(
        PolicyProblem(str(file), 0, 0, "", "a file that is mounted by itself (subPath)", _FOLDER_INSTEAD)
        for file in files
        if str(file.absolute()) in points
    )


_FOLDER_INSTEAD = "its folder to be mounted: an update that replaces the file never arrives here"
