"""Where a request's record goes: a plain call that neither blocks nor raises."""

from collections.abc import Callable

from proxy.words import Record

Ledger = Callable[[Record], None]
