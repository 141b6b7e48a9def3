"""An environment in which no variable is missing: for looking at a policy that nothing is sent by.

A policy needs its secrets to serve, and not to be compared or checked.  What `${NAME}` asks for and
is unset (or empty) becomes a URL that leads nowhere and is a possible key too; `${NAME:-default}` is
its default, as ever.
"""

from collections.abc import Mapping


class Placeholders(dict[str, str]):
    """`env`, with placeholders for what is unset; `unset` are the names that were asked for in vain."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__({name: value for name, value in env.items() if value})
        self.unset: list[str] = []

    def __missing__(self, name: str) -> str:
        if name not in self.unset:
            self.unset.append(name)
        return f"https://unset.invalid/{name}"  # .invalid has no addresses: RFC 2606
