"""Where a request's record goes, and how it is kept."""

from collections.abc import Callable, Sequence

from proxy.words import Feedback, Record

# Who takes records, some at a time: a plain call that neither blocks nor raises.
Sink = Callable[[Sequence[Record]], None]
FeedbackSink = Callable[[Feedback], None]  # likewise, one at a time
