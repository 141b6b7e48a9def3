"""Logs as JSON, one object per line, on standard error."""

import json
import logging
import time
from functools import lru_cache

from proxy.telemetry.lines import Channel, LineWriter, standard_error

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Bytes of lines that may wait for a reader of standard error: some thousand.
LOG_AHEAD = 1024 * 1024
# Seconds that the end of the process waits for them.
LAST_WORDS = 0.5

log_lines = Channel(LOG_AHEAD)


class JsonFormatter(logging.Formatter):
    """A record as one JSON line: whatever a message contains, it stays on its line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC, level, logger, message, and the traceback where there is one."""
        line = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


class LineHandler(logging.Handler):
    """Hands lines to the writer: to log is never to wait."""

    def __init__(self, writer: LineWriter, channel: Channel) -> None:
        super().__init__()
        self._writer = writer
        self._channel = channel
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._writer.put(self._channel, line.encode() + b"\n")

    def flush(self) -> None:
        """What the interpreter calls at its end; nobody else should."""
        self._writer.flush(LAST_WORDS)


def utc(moment: float) -> str:
    """Unix time as RFC 3339, to the millisecond."""
    second = int(moment)
    return f"{_second(second)}.{int((moment - second) * 1000):03d}Z"


@lru_cache(2)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def configure(level: str) -> None:
    """Log from `level` on; replaces what was configured before."""
    root = logging.getLogger()
    root.handlers[:] = [LineHandler(standard_error, log_lines)]
    root.setLevel(logging.WARNING)  # libraries speak up only when something is wrong
    follow(level)


def follow(level: str) -> None:
    """Log from `level` on, from now on."""
    logging.getLogger("splitlane").setLevel(LEVELS[level])
