"""How fast records are made into rows, queued, and written to a store.

python -m bench.ledger_rate                                  a SQLite file in a temporary folder
python -m bench.ledger_rate --store postgresql://…           a server of yours; it is filled
"""

import argparse
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.ids import Ids
from proxy.ledger import writer
from proxy.ledger.batch import Batch, Kept
from proxy.ledger.feedback import Joined
from proxy.ledger.frames import frame
from proxy.ledger.ledger import MAX_BATCH
from proxy.ledger.queue import PACKED, Queue
from proxy.ledger.row import Pack, Row, unpack
from proxy.ledger.standing import Standing
from proxy.ledger.writer import Spent
from proxy.policy.snapshot import StorePolicy
from proxy.words import Assignment, Attempt, Brake, Decision, Record, Usage, Variant

AGENT, MODEL = "qa_agent", "open-mistral-7b"
SALT = f"{AGENT}/ft:{MODEL}:5010731d:20251031:ecc3829c"
KEY = b"k" * 32
LONGEST = 120.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a store's URL")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=100_000)
    arguments = parser.parse_args()
    records = [made(random.randrange(arguments.users)) for _ in range(arguments.records)]
    with TemporaryDirectory() as folder:
        file = Path(folder, "splitlane.db")
        measure(records, arguments.store or f"sqlite:///{file}")
        if not arguments.store:
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
            print(f"{size / len(records):.0f} bytes a record on disk, tables and indexes together")
    return 0


def made(user: int) -> Record:
    now = time.time()
    usage = Usage(200, 150)
    return Record(
        _ids.new(now), now, "chat", AGENT, Decision(Variant.BASELINE, Assignment.BASELINE, user % 10_000), 10.0, SALT,
        "0123456789ab", MODEL, 200, None, None, (Attempt("mistral", MODEL, 200, None, 0.001, 0.9, usage, 0.00009),),
        0.9, 0.9, -1.0, usage, 0.00009, f"chatcmpl-{random.getrandbits(96):024x}", f"{user:032x}", False,
    )  # fmt: skip


_ids = Ids()


class Batches:
    """All of them at once; and who hears of them."""

    ended = True

    def __init__(self, rows: list[Row]) -> None:
        cuts = range(0, len(rows), MAX_BATCH)
        self._left = [Batch(f"b{start}", rows[start : start + MAX_BATCH]) for start in reversed(cuts)]
        self.kept = 0

    def take(self) -> Batch | None:
        return self._left.pop() if self._left else None

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    def written(self, batch: Batch, kept: Kept) -> None:
        self.kept += kept.rows

    def opened(self, key: bytes) -> None: ...
    def spent(self, spent: Spent) -> None: ...
    def joined(self, joined: Joined) -> None: ...
    def braked(self, brakes: dict[str, Brake]) -> None: ...
    def stands(self, standing: Standing) -> None: ...
    def away(self) -> None: ...


def measure(records: list[Record], url: str) -> None:
    started = time.perf_counter()
    blocks = [records[start : start + PACKED] for start in range(0, len(records), PACKED)]
    packed, packing = [], Pack()
    for those in blocks:
        packing.add(those)
        packed.append(packing.close())
    made_in = time.perf_counter() - started
    queue = Queue(max_rows=len(records), max_bytes=1 << 40)
    started = time.perf_counter()
    for block, those in zip(packed, blocks, strict=True):
        queue.put(block, len(those))
    queued_in = time.perf_counter() - started
    started = time.perf_counter()
    frames = []
    while len(queue):
        frames.append(frame(("b", queue.take(MAX_BATCH)[0], [], [])))
    framed_in = time.perf_counter() - started
    each = 1e6 / len(records)
    print(
        f"{made_in * each:.2f} us to make a row, {queued_in * each:.2f} to queue it, {framed_in * each:.2f} to frame it"
    )
    print(f"{sum(map(len, frames)) / len(records):.0f} bytes a row on its way to the writer")
    batches = Batches([row for block in packed for row in unpack(block)])
    writer.CLOSE_WITHIN = LONGEST
    started = time.perf_counter()
    writer.Writer(StorePolicy(url, 1e9, KEY), "bench", batches, batches).run()
    written_in = time.perf_counter() - started
    print(f"{batches.kept} records written in {written_in:.1f} s: {batches.kept / written_in:,.0f} a second")


if __name__ == "__main__":
    sys.exit(main())
