"""A whole proxy in the test's own loop: real sockets on both sides, records caught at the end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from proxy.listener.service import Service
from proxy.policy.load import read_policy
from proxy.policy.snapshot import Address, Policy
from proxy.policy.store import PolicyStore
from proxy.words import Record

FINETUNED = "ft:open-mistral-7b:5010731d:20251031:ecc3829c"
BASELINE = "open-mistral-7b"
# Under salt `qa_agent/FINETUNED` these users lie in buckets 1849 and 7794: at 25 % the first is
# fine-tuned and the second is not (vectors/assignment.json).
FINETUNED_USER = "user-1"
BASELINE_USER = "user-42"

LOCAL = Address("127.0.0.1", 0)
TOKEN = "admin-token-of-the-tests"

# The policies of this run, as the files that the proxies of the tests read, by hash.
_FOLDER = TemporaryDirectory()
_FILES: dict[str, Path] = {}
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, where there is one, is faster


def policy_of(upstream_url: str, **changes: Any) -> Policy:
    """One agent, `qa_agent`, at 25 % on one upstream; `changes` replace or add top-level sections.

    Dicts are merged into the section, anything else replaces it: `limits={"max_in_flight": 2}`.
    """
    config: dict[str, Any] = {
        "environment": "test",
        "upstreams": {"up": {"base_url": upstream_url, "dialect": "openai", "api_key": "sk-upstream"}},
        "default_upstream": "up",
        "agents": {"qa_agent": {"fine_tuned": FINETUNED, "fallback": BASELINE}},
        "ab_testing": {"enabled": True, "rollout_percentage": 25},
    }
    for section, change in changes.items():
        if isinstance(change, dict) and isinstance(config.get(section), dict):
            config[section] = _merged(config[section], change)
        else:
            config[section] = change
    path = Path(_FOLDER.name, f"{len(_FILES)}.yaml")
    path.write_text(yaml.dump(config, Dumper=_DUMPER))
    policy = read_policy(path, {}).policy
    _FILES[policy.hash] = path
    return policy


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


@dataclass
class Lane:
    """A running proxy."""

    service: Service
    settled: list[Record] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """All records until now: what waits for company is fetched."""
        self.service.exchange.flush()
        return self.settled

    @property
    def host(self) -> str:
        return self.service.data.host

    @property
    def port(self) -> int:
        return self.service.data.port

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.service.admin.host}:{self.service.admin.port}"

    async def record(self, count: int = 1) -> Record:
        """The record number `count`, once it is there."""
        await eventually(lambda: len(self.records) >= count)
        return self.records[count - 1]

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        await eventually(lambda: self.service.exchange.in_flight == 0)


def store_of(policy: Policy) -> PolicyStore:
    """The store of a policy of `policy_of`."""
    return PolicyStore(_FILES[policy.hash], {})


@asynccontextmanager
async def running(policy: Policy | PolicyStore, data: Address = LOCAL) -> AsyncIterator[Lane]:
    """A proxy that serves a policy of `policy_of`, or a store's, until the block ends."""
    records: list[Record] = []
    store = policy if isinstance(policy, PolicyStore) else store_of(policy)
    service = Service(store, data, LOCAL, (records.extend,), TOKEN)
    await service.start()
    try:
        yield Lane(service, records)
    finally:
        service.hurry()
        await service.stop()


async def eventually(holds: Callable[[], bool], within: float = 5.0) -> None:
    """Wait until `holds()`; fails after `within` seconds."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.005)


def policy_file(name: str) -> Path:
    """A policy of the repository."""
    return Path(__file__).parents[2] / "policies" / name
