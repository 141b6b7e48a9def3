"""A settled request, for tests of what is made of records; each replaces what it is about."""

from collections.abc import Sequence

from proxy.ledger.row import Pack, Row, unpack
from proxy.words import Assignment, Decision, Record, Usage, Variant

SOUND = Record(
    request_id="01890a5d-ac96-774b-bcce-b302099a8057",
    time=1_700_000_000.0,
    route="chat",
    agent="qa_agent",
    decision=Decision(Variant.FINETUNED, Assignment.FINETUNED, 5),
    percentage=10.0,
    salt="qa_agent/ft:m",
    policy_hash="0123456789ab",
    served="ft:m",
    status=200,
    failure=None,
    fallback=None,
    attempts=(),
    latency=1.2,
    blocked=1.0,
    ttft=0.4,
    usage=Usage(19, 10, cached=8, reasoning=4),
    cost=0.002,
    response_id="chatcmpl-1",
    unit="",
    stream=False,
)


def row_of(record: Record) -> Row:
    """The store's row, packed and unpacked as on its way to the writer."""
    (row,) = unpack(pack([record]))
    return row


def pack(records: Sequence[Record]) -> bytes:
    """What the ledger keeps of these."""
    packing = Pack()
    packing.add(records)
    return packing.close()
