"""deploy/compose: what docker compose makes of it, and whether everything in it exists."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.policy.load import read_policy
from tests.deploy.programs import arguments, installed
from tests.docs.pages import ROOT
from tests.support.programs import program

FOLDER = ROOT / "deploy/compose"


@cache
def compose() -> dict[str, Any]:
    """The whole file as compose understands it; sources of mounts are absolute."""
    done = subprocess.run(
        [installed("docker-compose"), "--file", str(FOLDER / "compose.yaml"), "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    whole: dict[str, Any] = json.loads(done.stdout)
    return whole


def bound() -> list[tuple[str, Path, str]]:
    """Service, path on this machine and in the container of every mounted file and folder."""
    return [
        (name, Path(volume["source"]), volume["target"])
        for name, service in compose()["services"].items()
        for volume in service.get("volumes", ())
        if volume["type"] == "bind"
    ]


def test_services_are_proxy_upstream_prometheus_and_grafana() -> None:
    assert compose()["services"].keys() == {"proxy", "stub", "prometheus", "grafana"}


def test_every_mounted_path_exists() -> None:
    missing = [str(path.relative_to(ROOT)) for _, path, _ in bound() if not path.exists()]
    assert missing == []


@pytest.mark.parametrize("name", ["proxy", "stub"])
def test_commands_are_those_of_the_program(name: str) -> None:
    command, *rest = compose()["services"][name]["command"]
    arguments(command).parse_args(rest)


def test_policy_of_the_proxy_is_mounted_and_asks_the_stub() -> None:
    service = compose()["services"]["proxy"]
    named = Path(service["command"][service["command"].index("--policy") + 1])
    ((_, folder, _),) = [each for each in bound() if each[0] == "proxy" and each[2] == str(named.parent)]
    policy = read_policy(folder / named.name, service["environment"]).policy
    assert {(each.host, each.port) for each in policy.upstreams.values()} == {("stub", 9000)}
    assert policy.limits.drain + policy.limits.drain_delay + 1 < 30
    assert service["stop_grace_period"] == "30s"


def test_nothing_listens_to_other_machines() -> None:
    published = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert {port["published"] for port in published} == {"8080", "8081", "9090", "3000"}
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_containers_of_the_image_are_read_only_and_may_do_nothing() -> None:
    for name in ("proxy", "stub"):
        service = compose()["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_images_are_pinned() -> None:
    images = {name: service["image"] for name, service in compose()["services"].items()}
    assert images.pop("proxy") == images.pop("stub") == "splitlane"
    assert all(re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+", image) for image in images.values())


def test_prometheus_scrapes_the_proxy_and_loads_the_rules(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text()
    config = yaml.safe_load(text)
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "splitlane"
    assert job["static_configs"] == [{"targets": ["proxy:8081"]}]
    mounted = {target: path for name, path, target in bound() if name == "prometheus"}
    (rules,) = config["rule_files"]
    assert f"/etc/prometheus/{rules}" in mounted
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / rules).write_text("groups: []\n")  # what is in them is tests/deploy's business elsewhere
    checked = subprocess.run(
        [program("promtool", "prometheus"), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
