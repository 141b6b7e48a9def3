"""The folders of some files, watched: a hint that it is time to look, and never more than that.

Folders, not files: a ConfigMap's update swaps a link beside its files, and a watch on a file misses the
second one.  Where nothing can be watched (no inotify instance left, a folder that is gone, a network file
system) nothing is told, which is why whoever asks also looks by the clock.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from proxy.tasks import blocking, spawn

log = logging.getLogger("splitlane.policy")

# Events are gathered for this long, milliseconds: an update is a handful of them.  A thread wakes up as often, whether
# or not there are any: at 50 ms that took 1.6 ms of processor a second.
GATHER = 200


def folders_of(files: Iterable[Path]) -> frozenset[Path]:
    """Where the files are: by their names, and where their links lead."""
    folders = {folder for file in files for folder in (file.parent.absolute(), file.resolve().parent)}
    return frozenset(filter(Path.is_dir, folders))


class FolderWatch:
    """Tells when something happens in the folders it is told to follow."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()
        self._folders: frozenset[Path] = frozenset()
        self._watching: asyncio.Task[None] | None = None

    def follow(self, folders: frozenset[Path]) -> None:
        """Watch these from now on; a watch that has ended is begun again."""
        if folders == self._folders and self._watching is not None and not self._watching.done():
            return
        self.stop()
        self._folders = folders
        if folders:
            self._watching = spawn(self._watch(folders), "policy folders")

    async def stirred(self, within: float) -> None:
        """Return once something has happened since the last call, or after `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._stirred.wait()
        self._stirred.clear()

    def stop(self) -> None:
        """Watch nothing any more."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self, folders: frozenset[Path]) -> None:
        # Not before it is needed: it takes a twentieth of a start.
        awatch = (await blocking(lambda: import_module("watchfiles"), "import")).awatch
        events = awatch(*folders, watch_filter=None, recursive=False, debounce=2 * GATHER, step=GATHER)
        try:
            async with contextlib.aclosing(events):
                async for _ in events:
                    self._stirred.set()
        except OSError as error:
            log.debug("the policy's folders cannot be watched: %s", error)
