"""One JSON object per line, whatever is logged.  ACCEPTANCE 36: log injection impossible."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.lines import standard_error
from proxy.telemetry.log import LEVELS, JsonFormatter, configure, follow


def line_of(message: str, *arguments: object, level: int = logging.INFO, **more: Any) -> str:
    record = logging.LogRecord("splitlane.test", level, __file__, 1, message, arguments, None)
    vars(record).update(more)
    return JsonFormatter().format(record)


def written(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard error, all that were logged until now."""
    standard_error.flush(5)
    return capfd.readouterr().err.splitlines()


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Logging is the process's: put back what `configure` replaces."""
    root, ours = logging.getLogger(), logging.getLogger("splitlane")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@given(st.text(st.characters()))
def test_any_message_is_one_line_of_ascii_json(message: str) -> None:
    line = line_of("%s", message)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == message


def test_line_says_when_who_and_how_bad() -> None:
    found = json.loads(line_of("%s is %d", "it", 1, level=logging.WARNING, created=1_700_000_000.0079))
    assert found == {
        "time": "2023-11-14T22:13:20.007Z",
        "level": "warning",
        "logger": "splitlane.test",
        "message": "it is 1",
    }


def test_time_is_that_of_the_record() -> None:
    moment = datetime.fromisoformat(json.loads(line_of("x"))["time"])
    assert moment.tzinfo == UTC
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)


def test_traceback_stays_on_the_line() -> None:
    with pytest.raises(ValueError, match="no") as caught:
        int("no\ngood")
    line = line_of("failed", exc_info=(caught.type, caught.value, caught.tb))
    assert len(line.splitlines()) == 1
    traceback = json.loads(line)["traceback"]
    assert traceback.startswith("Traceback")
    assert "ValueError" in traceback
    assert "\n" in traceback


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("level", LEVELS)
def test_level_decides_what_is_written(level: str, capfd: pytest.CaptureFixture[str]) -> None:
    configure(level)
    log = logging.getLogger("splitlane.exchange")
    for name, number in LEVELS.items():
        log.log(number, name)
    assert [json.loads(line)["message"] for line in written(capfd)] == [
        name for name, number in LEVELS.items() if number >= LEVELS[level]
    ]


@pytest.mark.usefixtures("logging_restored")
def test_libraries_are_heard_only_when_something_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    configure("debug")
    library = logging.getLogger("aiohttp.access")
    library.info("chatter")
    library.warning("trouble")
    assert [json.loads(line)["message"] for line in written(capfd)] == ["trouble"]


@pytest.mark.usefixtures("logging_restored")
def test_configuring_again_replaces_what_was_configured(capfd: pytest.CaptureFixture[str]) -> None:
    configure("info")
    configure("info")
    logging.getLogger("splitlane").info("once")
    assert len(written(capfd)) == 1


def test_level_can_follow_a_policy_without_another_handler(logging_restored: None) -> None:
    configure("info")
    handlers = logging.getLogger().handlers[:]
    follow("debug")
    assert logging.getLogger("splitlane.exchange").isEnabledFor(logging.DEBUG)
    follow("error")
    assert not logging.getLogger("splitlane.exchange").isEnabledFor(logging.WARNING)
    assert logging.getLogger().handlers == handlers
