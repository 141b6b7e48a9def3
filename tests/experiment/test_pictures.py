"""Pictures: real ones, by matplotlib."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from proxy.experiment.pictures import NoMatplotlib, draw, drawing
from tests.experiment.verdicts import COST, SLOW, SUCCESS, WORSE, course, evidence, finding, verdict
from tests.support.served import ROOT

FINDING = finding(verdict(gates=(SUCCESS, WORSE, SLOW, COST)))


def drawn(folder: Path) -> dict[str, str]:
    with drawing(folder):
        return {each.name: each.svg for each in draw(FINDING)}


def test_pictures_are_the_same_twice_and_their_text_is_text(tmp_path: Path) -> None:
    pictures = drawn(tmp_path)
    assert pictures == drawn(tmp_path)
    assert pictures.keys() == {"qa_agent-intervals.svg", "qa_agent-course.svg"}
    for svg in pictures.values():
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(r"\b20\d\d-\d\d-\d\dT", svg), "no time of the drawing"
        assert "prefers-color-scheme:dark" in svg
    words = " ".join(ET.fromstring(pictures["qa_agent-intervals.svg"]).itertext())
    for word in ("latency_p95 (pp)", "guardrail", "fail  +2.31 pp", "margin +1.00 pp", "pass  -28.00 %"):
        assert word in words
    assert "5 %" in " ".join(ET.fromstring(pictures["qa_agent-course.svg"]).itertext())
    assert list(tmp_path.iterdir()) == [], "what matplotlib keeps for itself is gone"


def test_every_colour_has_its_place_on_dark(tmp_path: Path) -> None:
    for svg in drawn(tmp_path).values():
        body = svg.partition("</style>")[2]
        used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body))
        assert used
        assert used <= set(re.findall(r'\[style\*="(?:fill|stroke): (#[0-9a-f]{6})"\]', svg))


def test_nothing_to_show_is_no_picture(tmp_path: Path) -> None:
    with drawing(tmp_path):
        assert list(draw(finding(verdict(gates=()), course=()))) == []
        assert len(list(draw(finding(verdict(gates=(), percentage=0.0), course=course(1), evidence=evidence())))) == 1


def test_without_matplotlib_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from pathlib import Path\n"
        "from proxy.experiment.pictures import NoMatplotlib, drawing\n"
        f"try:\n with drawing(Path({str(tmp_path)!r})): pass\n"
        "except NoMatplotlib as error: print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "splitlane[pictures]" in shown.stdout
    assert list(tmp_path.iterdir()) == []


def test_folder_of_the_users_own_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", "/somewhere")
    with drawing(tmp_path):
        assert os.environ["MPLCONFIGDIR"] == "/somewhere"
    assert issubclass(NoMatplotlib, Exception)
