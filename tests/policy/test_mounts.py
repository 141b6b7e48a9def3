"""Single-file mounts, from tables in the form of proc(5); a real one is in test_reload_process.py."""

from pathlib import Path

from proxy.policy.mounts import find_single_file_mounts

LINE = "36 35 98:0 /volume {point} ro,noatime master:1 - ext4 /dev/root rw,errors=continue\n"


def table(folder: Path, *points: Path) -> Path:
    path = folder / "mountinfo"
    path.write_text("".join(LINE.format(point=str(point).replace(" ", "\\040")) for point in points))
    return path


def test_file_that_is_a_mount_is_warned_about_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a policy.yaml"
    path.touch()
    (warning,) = find_single_file_mounts([path], table(tmp_path, Path("/proc"), path))
    assert warning.file == str(path)
    assert "directory" in warning.expected
    assert "updates of the ConfigMap never arrive" in warning.expected


def test_file_in_a_mounted_directory_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.touch()
    assert find_single_file_mounts([path], table(tmp_path, tmp_path, tmp_path / "policy.yam")) == ()


def test_link_to_a_mounted_file_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").touch()
    link = tmp_path / "policy.yaml"
    link.symlink_to("real.yaml")
    assert len(find_single_file_mounts([link], table(tmp_path, tmp_path / "real.yaml"))) == 1


def test_without_a_table_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert find_single_file_mounts([tmp_path / "policy.yaml"], tmp_path / "none") == ()
