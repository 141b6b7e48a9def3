"""What `splitlane rollout` prints of words that stand in a store, where others write too."""

from typing import Any

from proxy.cli.rollout_text import history_lines
from proxy.experiment.memory import Decision


def test_words_of_a_store_do_not_move_the_terminal_or_end_a_line() -> None:
    evil = "a\x1b[2J\nb\u2028c\u202e"
    told = {"time": 0.0, "percentage": 10.0, "target": None, "reasons": (evil,)}
    fields: dict[str, Any] = {**dict.fromkeys(Decision._fields, evil), **told}
    (line,) = history_lines([Decision(**fields)])
    assert line.isprintable()
    assert line.count("a?[2J?b?c?") >= 3
