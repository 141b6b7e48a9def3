"""A second process on the same port takes over under load, and the first one ends: no request fails."""

import asyncio
import re
from contextlib import closing
from pathlib import Path

import pytest

from proxy.ledger.open import open_database
from proxy.stub import Stub, StubConfig
from tests.integration.asking import chat
from tests.support.lane import eventually
from tests.support.served import Served, serving, write_policy


@pytest.mark.alone  # two processes under load, and their writers
async def test_upgrade_under_load_fails_no_request_and_loses_no_record_untold(tmp_path: Path) -> None:
    """Half of the clients come anew for every request, half stay for as long as they may.

    What the writers of a machine without a core to spare have not written in their last seconds is in the log.
    """
    store = f"sqlite:///{tmp_path}/store.db"
    answered: list[str] = []
    over = False

    async def ask(proxy: Served, *, stay: bool) -> None:
        while not over:
            async with proxy.client() as client:
                going_on = True
                while going_on and not over:
                    await client.send(chat())
                    answer = await client.read_response()
                    assert (answer.status, answer.clean_end) == (200, True)
                    answered.append((answer.head.get(b"x-splitlane-request-id") or b"").decode())
                    going_on = stay and answer.head.get(b"connection") != b"close"

    async def more(count: int) -> None:
        before = len(answered)
        await eventually(lambda: len(answered) > before + count, within=20)

    async with Stub(StubConfig(latency=0.01, words=3)) as stub:
        path = write_policy(tmp_path, stub.url, store={"url": store})
        async with serving(path, options=["--reuse-port"]) as old:
            asking = [asyncio.create_task(ask(old, stay=number % 2 == 0)) for number in range(8)]
            await more(20)
            options = ["--reuse-port", "--listen", f"127.0.0.1:{old.data}"]
            async with serving(path, options=options) as new:
                assert new.data == old.data
                await more(50)
                old.terminate()
                assert await old.exit_code() == 0
                await more(20)
                over = True
                await asyncio.gather(*asking)
                new.terminate()
                assert await new.exit_code() == 0
    with closing(open_database(store, read_only=True)) as database:
        kept = {str(row[0]) for row in database.execute("SELECT id FROM requests")}
    told = re.findall(r'"(\d+) records were not written"', "".join(old.log + new.log))
    assert kept <= set(answered)
    assert len(kept) + sum(map(int, told)) == len(answered) == len(set(answered))
