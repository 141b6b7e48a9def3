"""deploy/kubernetes: built by kubectl, held to the API server's schemas, to its policy, and to the program."""

import re
import subprocess
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy.policy.load import LoadedPolicy, read_policy
from proxy.policy.placeholders import Placeholders
from tests.deploy.programs import arguments, installed
from tests.docs.pages import ROOT, section

FOLDER = ROOT / "deploy/kubernetes"
# The oldest version of Kubernetes that each is for.
OLDEST = {"sidecar": "1.30.0", "container": "1.27.0", "rollout": "1.27.0"}
NEWEST = kubernetes_validate.latest_version()
# What an orchestrator without a word about it is given to end in, seconds: Kubernetes' default.
ORCHESTRATORS_END = 30
CUSTOM = {"PodMonitor"}
# A placeholder would be no store's URL.
STORE = {"SPLITLANE_STORE_URL": "postgresql://splitlane@postgres/splitlane", "SPLITLANE_UNIT_KEY": "0" * 64}

Manifest = dict[str, Any]


@cache
def built(name: str) -> tuple[Manifest, ...]:
    """The manifests as `kubectl apply -k` sends them."""
    done = subprocess.run(
        [installed("kubectl"), "kustomize", str(FOLDER / name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(yaml.safe_load_all(done.stdout))


def one(name: str, kind: str) -> Manifest:
    (found,) = (each for each in built(name) if each["kind"] == kind)
    return found


def pod(name: str) -> Manifest:
    spec: Manifest = one(name, "Deployment")["spec"]["template"]["spec"]
    return spec


def job() -> Manifest:
    spec: Manifest = one("rollout", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def containers(spec: Manifest) -> dict[str, Manifest]:
    return {each["name"]: each for each in [*spec.get("initContainers", ()), *spec["containers"]]}


def policy(folder: Path) -> LoadedPolicy:
    """The policy of the ConfigMap, whose secrets are placeholders."""
    path = folder / "policy.yaml"
    path.write_text(one("sidecar", "ConfigMap")["data"]["policy.yaml"])
    return read_policy(path, Placeholders(STORE))


def pre_stop(container: Manifest) -> float:
    hook = container.get("lifecycle", {}).get("preStop", {})
    if "exec" in hook:
        program, seconds = hook["exec"]["command"]
        assert program == "sleep"
        return float(seconds)
    return float(hook.get("sleep", {}).get("seconds", 0))


# --- Kubernetes takes them ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "oldest"), OLDEST.items())
def test_manifests_are_what_the_api_server_takes(name: str, oldest: str) -> None:
    for manifest in built(name):
        if manifest["kind"] not in CUSTOM:
            for version in (oldest, NEWEST):
                kubernetes_validate.validate(manifest, version, strict=True)


def test_schemas_find_a_misspelt_field() -> None:
    manifest = yaml.safe_load(yaml.safe_dump(one("sidecar", "Deployment")))
    manifest["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriodSecond"):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


def test_production_has_all_of_it_with_images_of_its_own() -> None:
    parts = [each for name in ("sidecar", "monitoring", "rollout") for each in built(name)]
    whole = built("production")
    assert {(each["kind"], each["metadata"]["name"]) for each in whole} == {
        (each["kind"], each["metadata"]["name"]) for each in parts
    }
    images = re.findall(r"image: (\S+)", yaml.safe_dump_all(whole))
    assert images
    assert all(re.fullmatch(r"registry\.[\w./-]+:[\w.]+", image) and not image.endswith("latest") for image in images)
    assert {each["metadata"]["namespace"] for each in whole} == {"orchestrator"}
    (subject,) = one("production", "RoleBinding")["subjects"]
    assert subject["namespace"] == "orchestrator"


# --- the end of a pod -----------------------------------------------------------------------------


def test_drain_of_a_native_sidecar_fits_into_the_grace_that_the_orchestrator_leaves(tmp_path: Path) -> None:
    found, limits = pod("sidecar"), policy(tmp_path).policy.limits
    proxy = containers(found)["splitlane"]
    (orchestrator,) = found["containers"]
    assert found["initContainers"] == [proxy]
    assert proxy["restartPolicy"] == "Always"
    assert "lifecycle" not in proxy  # it is told to stop when the orchestrator has ended: nothing to wait for
    needed = pre_stop(orchestrator) + ORCHESTRATORS_END + limits.drain_delay + limits.drain + 1
    assert needed <= found["terminationGracePeriodSeconds"]


def test_drain_of_a_plain_container_fits_behind_its_wait_for_the_orchestrator(tmp_path: Path) -> None:
    found, limits = pod("container"), policy(tmp_path).policy.limits
    assert "initContainers" not in found
    proxy, orchestrator = containers(found)["splitlane"], containers(found)["orchestrator"]
    assert pre_stop(proxy) > pre_stop(orchestrator) > 0
    needed = pre_stop(proxy) + limits.drain_delay + limits.drain + 1
    assert needed <= found["terminationGracePeriodSeconds"]


def test_page_of_kubernetes_has_the_numbers_of_the_manifests(tmp_path: Path) -> None:
    text, limits = section("docs/kubernetes.md", "How a pod ends"), policy(tmp_path).policy.limits
    for name in ("sidecar", "container"):
        assert f"{pod(name)['terminationGracePeriodSeconds']} s" in text
    assert f"{limits.drain:g} s" in text
    assert f"{pre_stop(containers(pod('container'))['splitlane']):g} s" in text


# --- what runs in it -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sidecar", "container"])
def test_probes_ask_the_admin_listener(name: str) -> None:
    proxy = containers(pod(name))["splitlane"]
    ports = {port["name"]: port["containerPort"] for port in proxy["ports"]}
    assert ports == {"admin": 8081}
    assert ":8081" in proxy["args"]
    asked = {probe: proxy[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")}
    assert asked == {
        "startup": {"path": "/readyz", "port": "admin"},
        "readiness": {"path": "/readyz", "port": "admin"},
        "liveness": {"path": "/livez", "port": "admin"},
    }


@pytest.mark.parametrize("name", ["sidecar", "container"])
def test_policy_is_mounted_as_a_directory_under_the_name_that_serve_is_given(name: str) -> None:
    found = pod(name)
    assert_policy_is_mounted(found, containers(found)["splitlane"], containers(found)["splitlane"]["args"])


def assert_policy_is_mounted(found: Manifest, container: Manifest, argv: list[str]) -> None:
    given = PurePosixPath(argv[argv.index("--policy") + 1])
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    mount = mounts[str(given.parent)]
    assert "subPath" not in mount  # it would never change
    (volume,) = (each for each in found["volumes"] if each["name"] == mount["name"])
    config = one("sidecar", "ConfigMap")
    assert volume["configMap"] == {"name": config["metadata"]["name"]}
    assert given.name in config["data"]


@pytest.mark.parametrize("name", ["sidecar", "container"])
def test_arguments_of_the_proxy_are_those_of_the_program(name: str) -> None:
    command, *rest = containers(pod(name))["splitlane"]["args"]
    assert command == "serve"
    arguments(command).parse_args(rest)


def test_policy_is_sound_and_needs_what_the_secrets_have(tmp_path: Path) -> None:
    text = one("sidecar", "ConfigMap")["data"]["policy.yaml"]
    assert policy(tmp_path).warnings == ()
    secrets = {
        each["metadata"]["name"]: set(each["stringData"])
        for each in yaml.safe_load_all((FOLDER / "base/secret.example.yaml").read_text())
    }
    for name in ("sidecar", "container"):
        given = {source["secretRef"]["name"] for source in containers(pod(name))["splitlane"]["envFrom"]}
        assert given == secrets.keys()
    needed = set(re.findall(r"\$\{(\w+)\}", text))
    assert needed | {"SPLITLANE_ADMIN_TOKEN"} == set().union(*secrets.values())


@pytest.mark.parametrize("spec", [pod("sidecar"), pod("container"), job()], ids=["sidecar", "container", "rollout"])
def test_containers_may_do_nothing_they_need_not(spec: Manifest) -> None:
    shared = spec["securityContext"]
    assert (shared["runAsNonRoot"], shared["runAsUser"]) == (True, 65532)
    assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for name, container in containers(spec).items():
        own = container["securityContext"]
        assert (own["allowPrivilegeEscalation"], own["capabilities"]) == (False, {"drop": ["ALL"]})
        assert name == "orchestrator" or own["readOnlyRootFilesystem"]
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("name", ["sidecar", "container"])
def test_network_policy_and_pod_monitor_mean_these_pods_and_ports(name: str) -> None:
    template = one(name, "Deployment")["spec"]["template"]
    monitor = one("monitoring", "PodMonitor")
    network = one(name, "NetworkPolicy")
    for selector in (monitor["spec"]["selector"], network["spec"]["podSelector"]):
        assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"] for each in containers(template["spec"]).values() for port in each["ports"]}
    let_in = {port["port"]: rule.get("from") for rule in network["spec"]["ingress"] for port in rule["ports"]}
    assert let_in.keys() == ports == {"http", "admin"}
    assert let_in["admin"] is not None  # not from anywhere
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")


# --- the controller of the ramp ----------------------------------------------------------------------


def test_controller_may_read_and_patch_its_config_map_and_nothing_else() -> None:
    config = one("sidecar", "ConfigMap")["metadata"]["name"]
    role, binding, account = one("rollout", "Role"), one("rollout", "RoleBinding"), one("rollout", "ServiceAccount")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config], "verbs": ["get", "patch"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["metadata"]["name"]}]
    assert job()["serviceAccountName"] == account["metadata"]["name"]
    assert not [each for each in built("production") if each["kind"].startswith("ClusterRole")]
    (apply,) = job()["containers"]
    assert apply["args"][:3] == ["patch", "configmap", config]


def test_controllers_token_is_seen_by_kubectl_alone() -> None:
    seeing = {
        name: {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "token"}
        for name, container in containers(job()).items()
    }
    assert seeing == {"decide": set(), "apply": {"/var/run/secrets/kubernetes.io/serviceaccount"}}


def test_controllers_command_is_the_programs_and_writes_what_kubectl_reads() -> None:
    decide, apply = containers(job())["decide"], containers(job())["apply"]
    (script,) = decide["args"]
    command, _, patch = script.splitlines()[0].partition(" > ")
    program, order, *rest = command.split()
    assert (program, order) == ("splitlane", "rollout")
    arguments("rollout").parse_args(rest)
    assert_policy_is_mounted(job(), decide, command.split())
    assert apply["args"][-2:] == ["--patch-file", patch]
    assert all("/patch" in {mount["mountPath"] for mount in each["volumeMounts"]} for each in (decide, apply))


@pytest.mark.parametrize(("code", "goes_on"), [(0, True), (3, True), (1, False), (2, False), (4, False)])
def test_patch_is_applied_when_an_agent_has_failed_and_not_when_nothing_was_decided(
    tmp_path: Path, code: int, goes_on: bool
) -> None:
    """Exit 3 is where a rollback is printed; 4, where somebody else is deciding, prints nothing."""
    decide = containers(job())["decide"]
    program = tmp_path / "splitlane"
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)
    script = decide["args"][0].replace("/patch/", f"{tmp_path}/")
    done = subprocess.run([*decide["command"], script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert (done.returncode == 0) == goes_on
