"""What all workers have counted, those that have ended too; counters never come out less than before."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import ProcessCollector

from proxy.telemetry.metrics import Plain
from proxy.telemetry.totals import ASKED, DIED, add, add_families, plain_families, worker_families
from proxy.workers.child import Child


class Tally:
    """The sum, and what the parent itself has to tell."""

    def __init__(self) -> None:
        self.restarts: Counter[str] = Counter({DIED: 0, ASKED: 0})
        self._counts: Plain = {}  # of workers that have ended
        self._families: Plain = {}
        self._process = ProcessCollector(registry=None)

    def bury(self, child: Child) -> None:
        """One has ended: its counts stay."""
        add(self._counts, child.counts)
        add_families(self._families, child.families, ended=True)

    def whole(self, children: Iterable[Child], serving: int) -> tuple[Plain, Plain]:
        """The sum over those that run and those that have ended: counts, and families of metrics.

        `serving`: how many take requests.
        """
        counts: Plain = {}
        families: Plain = {}
        add(counts, self._counts)
        add_families(families, self._families)
        for child in children:
            add(counts, child.counts)
            add_families(families, child.families)
        own = (*worker_families(serving, self.restarts), *self._process.collect())
        add_families(families, plain_families(own, stored=False))
        return counts, families
