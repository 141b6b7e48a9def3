"""Where a request's record goes, and how it is kept."""

from collections.abc import Callable

from proxy.words import Feedback, Record

Sink = Callable[[Record], None]  # a plain call that neither blocks nor raises
FeedbackSink = Callable[[Feedback], None]  # likewise
