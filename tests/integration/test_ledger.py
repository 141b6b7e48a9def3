"""The ledger behind a whole proxy, on SQLite and on PostgreSQL; the worst days of a real process.  ACCEPTANCE 40."""

import asyncio
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.ledger.database import Answer
from proxy.ledger.ledger import MAX_BATCH
from proxy.ledger.open import open_database
from proxy.stub import Stub, StubConfig
from tests.integration.asking import ask, chat
from tests.support.deaf import deaf_listener
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER, Lane, eventually, policy_of, running
from tests.support.postgres import PostgresServer
from tests.support.served import Served, serving, write_policy

pytestmark = pytest.mark.alone  # the writer runs when nobody else wants to

KEY = "0123456789abcdef" * 4
PRICES = {"*": {"input": 1000.0, "output": 2000.0}}


def query(url: str, statement: str) -> list[Answer]:
    database = open_database(url, read_only=True)
    try:
        return database.execute(statement)
    finally:
        database.close()


async def written(lane: Lane, number: int) -> None:
    def holds() -> bool:
        lane.service.exchange.flush()
        (metric,) = [each for each in lane.service.ledger.collect() if each.name == "splitlane_ledger_written"]
        return metric.samples[0].value >= number

    await eventually(holds)


async def ledger_counts(proxy: Served) -> dict[str, int]:
    text = (await proxy.ask_admin("/metrics")).body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        sample.name.removeprefix("splitlane_ledger_").removesuffix("_total"): int(sample.value)
        for sample in samples
        if sample.name.startswith("splitlane_ledger_")
    }


async def test_request_is_in_the_store_with_its_money_and_without_its_user(store_url: str) -> None:
    async with Stub(StubConfig(words=3)) as stub:
        policy = policy_of(stub.url, store={"url": store_url, "unit_key": KEY}, prices=PRICES)
        async with running(policy) as lane:
            for user in (FINETUNED_USER, BASELINE_USER, FINETUNED_USER):
                assert (await ask(lane, chat(user=user))).status == 200
            await written(lane, 3)
        rows = query(store_url, "SELECT variant, served, unit, bucket, cost, input, output FROM requests ORDER BY time")
        assert [(row[0], row[1], row[3]) for row in rows] == [
            ("finetuned", FINETUNED, 1849),
            ("baseline", BASELINE, 7794),
            ("finetuned", FINETUNED, 1849),
        ]
        for _, _, _, _, cost, prompt, completion in rows:
            assert prompt > 0
            assert completion > 0
            assert cost == pytest.approx((prompt * 1000.0 + completion * 2000.0) / 1e6)
        expected = blake2b(FINETUNED_USER.encode(), key=KEY.encode(), digest_size=16).hexdigest()
        assert [row[2] == expected for row in rows] == [True, False, True]
        assert query(store_url, "SELECT sum(requests), sum(cost) FROM rollups") == [
            (3, pytest.approx(sum(row[4] for row in rows)))
        ]


async def test_policy_that_names_another_store_moves_there_and_loses_nothing(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url, store={"url": urls[0]})
        async with serving(path, {"SPLITLANE_ADMIN_TOKEN": "t"}) as proxy, proxy.client() as client:

            async def ask_some() -> None:
                for _ in range(20):
                    await client.send(chat(user="u"))
                    assert (await client.read_response()).status == 200

            await ask_some()
            write_policy(tmp_path, stub.url, store={"url": urls[1]})
            assert (await proxy.ask_admin("/policy/reload", "POST", "t")).status == 200
            await ask_some()
            write_policy(tmp_path, stub.url, store={})
            assert (await proxy.ask_admin("/policy/reload", "POST", "t")).status == 200
            await ask_some()
            proxy.terminate()
            assert await proxy.exit_code() == 0
    counts = [query(url, "SELECT count(*) FROM requests")[0][0] for url in urls]
    assert sum(counts) == 40, "what came while the stores changed is in one of them"
    assert all(counts)


@asynccontextmanager
async def loaded(proxy: Served, answered: list[str], clients: int = 8) -> AsyncIterator[None]:
    """Clients that ask without a pause until the proxy is gone; ids of what was answered."""
    over = False

    async def keep_asking(number: int) -> None:
        try:
            async with proxy.client() as client:
                while not over:
                    await client.send(chat(user=f"user-{number}"))
                    answer = await client.read_response()
                    assert answer.status == 200
                    answered.append((answer.head.get(b"x-splitlane-request-id") or b"").decode())
        except (OSError, EOFError, AssertionError):
            if not over:
                raise

    tasks = [asyncio.create_task(keep_asking(number)) for number in range(clients)]

    async def stop() -> None:
        nonlocal over
        over = True
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield
    finally:
        await stop()


async def test_process_that_is_killed_under_load_loses_one_batch_at_most_and_repeats_none(
    store_url: str, tmp_path: Path
) -> None:
    answered: list[str] = []
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url, store={"url": store_url, "unit_key": KEY})
        for _ in range(2):
            async with serving(path) as proxy:
                before = len(answered)
                async with loaded(proxy, answered):
                    await asyncio.sleep(1.5)
                    proxy.terminate(signal.SIGKILL)
                    await proxy.exit_code()
                assert len(answered) - before > 200
        async with serving(path) as proxy:  # the next life opens it as if nothing had been
            assert (await ledger_counts(proxy))["up"] == 1
            proxy.terminate()
            assert await proxy.exit_code() == 0
    kept = [row[0] for row in query(store_url, "SELECT id FROM requests")]
    assert len(kept) == len(set(kept))
    lost = set(answered) - set(kept)
    assert len(lost) <= 2 * MAX_BATCH
    assert len(lost) < len(answered) / 2, "what is lost is the last moment, not the most"
    assert query(store_url, "SELECT sum(requests) FROM hours") == [(len(kept),)], "sums and rows agree"
    assert query(store_url, "SELECT count(*) FROM attempts") == [(len(kept),)]


async def test_end_of_a_process_writes_all_it_has(store_url: str, tmp_path: Path) -> None:
    answered: list[str] = []
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url, store={"url": store_url, "unit_key": KEY})
        async with serving(path) as proxy:
            async with loaded(proxy, answered):
                await asyncio.sleep(0.5)
            proxy.terminate()
            assert await proxy.exit_code() == 0
    assert set(answered) <= {row[0] for row in query(store_url, "SELECT id FROM requests")}


def writer_of(proxy: Served) -> int:
    """The number of the writer's process."""
    (child,) = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()
    return int(child)


async def _full_disk(proxy: Served, folder: Path) -> Callable[[], Awaitable[None]]:
    writer = writer_of(proxy)
    limits = resource.prlimit(writer, resource.RLIMIT_FSIZE)
    resource.prlimit(writer, resource.RLIMIT_FSIZE, (4096, limits[1]))

    async def mend() -> None:
        resource.prlimit(writer, resource.RLIMIT_FSIZE, limits)

    return mend


async def _moved(proxy: Served, folder: Path) -> Callable[[], Awaitable[None]]:
    (folder / "store").rename(folder / "gone")
    (folder / "store").write_text("in the way")

    async def mend() -> None:
        (folder / "store").unlink()

    return mend


@pytest.mark.parametrize("fault", [_full_disk, _moved])
async def test_disk_that_takes_no_more_fails_no_request_and_is_forgiven(
    tmp_path: Path, fault: Callable[[Served, Path], Awaitable[Callable[[], Awaitable[None]]]]
) -> None:
    answered: list[str] = []
    url = f"sqlite:///{tmp_path}/store/x.db"
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url, store={"url": url})
        async with serving(path) as proxy:
            async with loaded(proxy, answered, clients=2):
                await asyncio.sleep(0.5)
                mend = await fault(proxy, tmp_path)
                await asyncio.sleep(2.0)
                counts = await ledger_counts(proxy)
                assert counts["up"] == 0
                assert counts["queued"] > 0
                await mend()
                started = time.monotonic()
                while (await ledger_counts(proxy))["up"] == 0:
                    assert time.monotonic() - started < 10
                    await asyncio.sleep(0.1)
            proxy.terminate()
            assert await proxy.exit_code() == 0
            assert [line for line in proxy.log if "the store can be used again" in line]
    kept = {row[0] for row in query(url, "SELECT id FROM requests")}
    if fault is _full_disk:
        assert set(answered) <= kept
    else:
        assert kept < set(answered), "what was moved away is where it was moved to"
        assert set(answered) <= kept | {
            row[0] for row in query(f"sqlite:///{tmp_path}/gone/x.db", "SELECT id FROM requests")
        }


async def test_server_that_is_down_at_the_start_delays_nobody_and_gets_everything_later(
    fragile_postgres: PostgresServer, tmp_path: Path
) -> None:
    url = fragile_postgres.new_database()
    fragile_postgres.down()
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url, store={"url": url, "unit_key": KEY})
        try:
            async with serving(path) as proxy:
                answered: list[str] = []
                async with loaded(proxy, answered, clients=2):
                    await asyncio.sleep(0.5)
                    assert (await ledger_counts(proxy))["up"] == 0
                    await asyncio.to_thread(fragile_postgres.up)
                    while (await ledger_counts(proxy))["up"] == 0:
                        await asyncio.sleep(0.1)
                proxy.terminate()
                assert await proxy.exit_code() == 0
        finally:
            fragile_postgres.up()
    assert set(answered) <= {row[0] for row in query(url, "SELECT id FROM requests")}


async def test_writer_that_is_killed_is_started_again_and_nothing_is_lost_or_repeated(
    store_url: str, tmp_path: Path
) -> None:
    answered: list[str] = []
    async with Stub(StubConfig(words=3)) as stub:
        path = write_policy(tmp_path, stub.url, store={"url": store_url, "unit_key": KEY})
        async with serving(path) as proxy:
            async with loaded(proxy, answered, clients=4):
                for _ in range(3):
                    await asyncio.sleep(0.4)
                    os.kill(writer_of(proxy), signal.SIGKILL)
                    await asyncio.sleep(1.0)
            proxy.terminate()
            assert await proxy.exit_code() == 0
            assert len([line for line in proxy.log if "another one is started" in line]) == 3
    kept = [row[0] for row in query(store_url, "SELECT id FROM requests")]
    assert sorted(kept) == sorted(set(answered))
    assert query(store_url, "SELECT sum(requests) FROM hours") == [(len(kept),)]


async def test_end_does_not_wait_for_a_server_that_does_not_answer(tmp_path: Path) -> None:
    """ACCEPTANCE 39."""
    with deaf_listener() as port:
        url = f"postgresql://u:p@127.0.0.1:{port}/d"
        async with Stub(StubConfig(words=3)) as stub:
            path = write_policy(tmp_path, stub.url, store={"url": url, "unit_key": KEY})
            async with serving(path) as proxy:
                answered: list[str] = []
                async with loaded(proxy, answered, clients=2):
                    await asyncio.sleep(0.5)
                assert len(answered) > 50
                started = time.monotonic()
                proxy.terminate()
                assert await proxy.exit_code() == 0
                assert time.monotonic() - started < 2.0
                assert [line for line in proxy.log if "records were not written" in line]
