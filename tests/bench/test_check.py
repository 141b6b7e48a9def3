"""`make bench-check`: what it takes for slower."""

from bench.check import below, slower

RECORDED = {"read the body": 20_000, "assign": 1_000}


def test_counts_within_three_percent_are_as_good_as_recorded() -> None:
    assert slower(RECORDED, {"read the body": 20_500, "assign": 700}) == []


def test_function_that_takes_more_is_named_with_both_counts() -> None:
    assert slower(RECORDED, {"read the body": 21_000, "assign": 1_000}) == [
        "read the body: 21,000 instructions instead of 20,000 (+5.0%)"
    ]


def test_function_that_came_or_went_is_told() -> None:
    lines = slower(RECORDED, {"read the body": 20_000, "sort": 5})
    assert [line.partition(":")[0] for line in lines] == ["assign", "sort"]


def test_ratio_is_below_its_floor_only_where_no_round_reached_it() -> None:
    assert below(0.4, [0.35, 0.38, 0.41]) is None
    assert below(0.4, [0.35, 0.38, 0.39]) == "JSON: 0.380 of nginx (0.350 … 0.390), floor 0.400"
