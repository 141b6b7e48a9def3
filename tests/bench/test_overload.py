"""`python -m bench.overload`, small: ACCEPTANCE 29 on a real process, at 2, 5 and 10 times what there is room for."""

from dataclasses import replace

from bench.overload import broken_laws, measure


async def test_proxy_above_its_capacity_serves_as_much_as_ever_and_refuses_the_rest_at_once() -> None:
    """The machine may be busy with other things: refusals have half a second, which a queue would not keep."""
    outcome = await measure(in_flight=4, latency=0.2, seconds=1.0, factors=(2, 5, 10))
    assert broken_laws(outcome, patience_ms=500) == []
    assert [row["factor"] for row in outcome.rows] == [2, 5, 10]
    for law, value in (
        ("served, of", {"goodput": 1.0}),
        ("p99", {"p99_ms": 1000.0}),
        ("being refused takes", {"refused_p50_ms": 501.0}),
        ("another end", {"other": 1}),
        ("memory", {"rss_mib": 1000.0}),
    ):
        worse = replace(outcome, rows=[*outcome.rows[:2], {**outcome.rows[2], **value}])
        (problem,) = broken_laws(worse, patience_ms=500)
        assert law in problem
