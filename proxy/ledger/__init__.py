"""Where a request's record goes, and how it is kept."""

from collections.abc import Callable

from proxy.words import Record

Sink = Callable[[Record], None]  # a plain call that neither blocks nor raises
