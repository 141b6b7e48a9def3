"""Files that are mounted by themselves: a container's `subPath`, or a bind mount of one file.

Such a mount is of the file as it was, not of its name.  Who replaces the file, as a ConfigMap's update
or an editor's rename does, replaces it elsewhere: the mount never shows it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from proxy.policy.problems import PolicyProblem

_MOUNTS = Path("/proc/self/mountinfo")  # proc(5): the fifth field is where it is mounted
_ESCAPED = re.compile(r"\\([0-7]{3})")
_EXPECTED = (
    "its directory to be mounted (mounted as a single file, as with subPath: updates of the ConfigMap never arrive)"
)


def find_single_file_mounts(files: Iterable[Path], mounts: Path = _MOUNTS) -> tuple[PolicyProblem, ...]:
    """A warning for each of the files that is a mount of its own; none where `mounts` cannot be read."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ()
    points = {_ESCAPED.sub(lambda found: chr(int(found[1], 8)), line.split(" ")[4]) for line in lines}
    return tuple(
        PolicyProblem(str(path), 0, 0, "", "a mount of this one file", _EXPECTED)
        for path in files
        if str(path.resolve()) in points
    )
