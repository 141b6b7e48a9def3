"""The report's files: each is there as a whole or not at all."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxy.experiment.findings import Finding
from proxy.experiment.pictures import NoMatplotlib, draw, drawing
from proxy.ledger.page import Picture


def pictures_beside(output: Path) -> Path:
    """The folder of the pictures of a report."""
    return output.with_name(f"{output.stem}_pictures")


def write_pictures(folder: Path, findings: Sequence[Finding], page: Path) -> tuple[Mapping[str, list[Picture]], str]:
    """Pictures by agent, as the page in folder `page` links them; a note where there can be none.  Raises OSError."""
    found: dict[str, list[Picture]] = {}
    try:
        with drawing(folder):
            for finding in findings:
                for drawn in draw(finding):
                    write_whole(folder / drawn.name, drawn.svg)
                    path = Path(os.path.relpath(folder / drawn.name, page)).as_posix()
                    found.setdefault(finding.agent, []).append(Picture(path, drawn.text))
    except NoMatplotlib as missing:
        return {}, str(missing)
    return found, ""


def write_whole(path: Path, text: str) -> None:
    """Put `text` in the place of the file at `path`; its folder is made where there is none.  Raises OSError."""
    target = path.resolve()  # a link stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
