import os
import socket
import threading
from pathlib import Path

import pytest

from proxy.policy.files import PolicyFiles, UnreadableError, fingerprint_of


def refused(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        PolicyFiles().read(path)
    return str(caught.value)


def test_file_is_read_once_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    files = PolicyFiles()
    assert files.read(path) == b"one"
    path.write_bytes(b"other")
    assert files.read(path) == b"one"
    assert files.paths == (path,)
    assert files.fingerprint != fingerprint_of([path])


def test_no_more_than_the_limit_is_read_however_large_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert len(PolicyFiles().read(path)) == (1 << 20) + 1


@pytest.mark.timeout(5)
def test_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "silent")
    assert refused(tmp_path / "silent") == "not a regular file"


@pytest.mark.timeout(5)
def test_pipe_with_a_writer_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fed"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = threading.Thread(target=path.write_bytes, args=(b"environment: dev\n",))
    writer.start()
    assert refused(path) == "not a regular file"
    writer.join()
    os.close(reading)


@pytest.mark.timeout(5)
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_device_is_refused(name: str) -> None:
    assert refused(Path(name)) == "not a regular file"


def test_folder_socket_missing_file_and_impossible_name_are_refused_with_the_reason(tmp_path: Path) -> None:
    assert refused(tmp_path) == "Is a directory"
    assert refused(tmp_path / "none") == "No such file or directory"
    assert refused(tmp_path / "a\0b") == "impossible name"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refused(loop) == "Too many levels of symbolic links"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        assert refused(tmp_path / "socket") == "No such device or address"


def test_link_to_a_file_is_followed(tmp_path: Path) -> None:
    """A ConfigMap's files are links."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "x").write_bytes(b"one")
    (tmp_path / "x").symlink_to("..data/x")
    assert PolicyFiles().read(tmp_path / "x") == b"one"


def test_fingerprint_changes_with_any_file_and_when_one_appears(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    paths[0].write_bytes(b"1")
    paths[1].write_bytes(b"2")
    seen = [fingerprint_of(paths)]
    for path, content in [(paths[1], b"3"), (paths[2], b"4"), (paths[0], b"")]:
        path.write_bytes(content)
        seen.append(fingerprint_of(paths))
    paths[1].write_bytes(b"")
    paths[2].write_bytes(b"34")  # the same bytes in a row, elsewhere
    seen.append(fingerprint_of(paths))
    assert len(set(seen)) == len(seen)
    assert fingerprint_of(paths) == seen[-1]
