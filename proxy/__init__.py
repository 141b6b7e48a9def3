"""Splitlane: a sidecar reverse proxy that splits LLM traffic between fine-tuned models and a baseline.

The folders are the stages of a request; imports point down this list or into `words`:
    cli         argv → one command each
    stub        an upstream that speaks both dialects and misbehaves on demand
    workers     several processes behind one port, and the parent that starts them
    listener    the data and admin sockets, drain, signals, limits
    admin       what the admin listener answers
    exchange    the request path: read, identify, assign, admit, attempt, commit, relay, settle
    budget      what may be spent, and what is reserved of it
    upstream    connection pool and one attempt on it
    split       pure: identity and assignment
    wire        pure: body splice, SSE events, headers, usage, error bodies
    experiment  verdicts on the ramp: statistics, gates, brake, rollout
    ledger      records in a store: queue, writer, tables, SQLite and PostgreSQL
    telemetry   metrics, traces and logs
    policy      the policy file: config, load, compiled snapshot, hot reload
    ids         ids that sort by the time at which they were made
    outbox      writes of one turn of the loop, gathered
    tasks       the one place that starts tasks
    watchdog    one lazy timer per connection
    words       small frozen types everybody may import
"""

from importlib.util import find_spec

__version__ = "0.1.0"


def is_compiled() -> bool:
    """Whether the request path runs compiled: it does in an installed wheel, and not in a checkout."""
    spec = find_spec("proxy.exchange.exchange")
    return spec is not None and not (spec.origin or "").endswith(".py")
