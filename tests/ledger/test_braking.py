"""What one proxy takes to be in force, while the store is told and tells."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.ledger.brakes import Command
from proxy.ledger.braking import Braking
from proxy.words import Brake

AGENTS = st.sampled_from(["a", "b"])


def brake(agent: str, number: int = 1) -> Brake:
    return Brake(f"brake-{number}", agent, float(number), "{}")


class Proxy:
    def __init__(self) -> None:
        self.told: list[dict[str, Brake]] = []
        self.braking = Braking(self.told.append)


def test_brake_is_in_force_at_once_and_told_once() -> None:
    proxy = Proxy()
    proxy.braking.trip(brake("a"))
    proxy.braking.trip(brake("a", 2))
    assert proxy.told == [{"a": brake("a")}]
    assert proxy.braking.take() == [("trip", tuple(brake("a")))], "the second changes nothing"


def test_brake_stays_in_force_until_the_store_decides() -> None:
    proxy = Proxy()
    proxy.braking.trip(brake("a"))
    sent = proxy.braking.take()
    proxy.braking.listed({})
    assert proxy.braking.active == {"a": brake("a")}, "the store has not heard of it"
    proxy.braking.written(sent)
    assert proxy.braking.active == {"a": brake("a")}
    assert proxy.braking.left == 0
    proxy.braking.listed({"a": brake("a"), "b": brake("b")})
    proxy.braking.listed({"b": brake("b")})
    assert proxy.told[1:] == [{"a": brake("a"), "b": brake("b")}, {"b": brake("b")}]


def test_cleared_brake_does_not_come_back_with_a_listing_from_before() -> None:
    proxy = Proxy()
    proxy.braking.listed({"a": brake("a")})
    proxy.braking.clear("a", 5.0, "somebody")
    proxy.braking.listed({"a": brake("a")})
    assert proxy.braking.active == {}
    assert proxy.braking.take() == [("clear", "a", 5.0, "somebody")]
    proxy.braking.listed({"a": brake("a")})
    assert proxy.braking.active == {}
    proxy.braking.written([("clear", "a", 5.0, "somebody")])
    proxy.braking.listed({"a": brake("a", 9)})
    assert proxy.told == [{"a": brake("a")}, {}, {"a": brake("a", 9)}], "another was tripped since"


def test_what_is_in_force_moves_to_another_store() -> None:
    proxy = Proxy()
    proxy.braking.listed({"a": brake("a"), "b": brake("b")})
    proxy.braking.move()
    proxy.braking.clear("b", 5.0, "somebody")
    assert proxy.braking.active == {"a": brake("a")}
    commands = proxy.braking.take()
    assert [command[0] for command in commands] == ["trip", "trip", "clear"]
    proxy.braking.listed({})
    assert proxy.braking.active == {"a": brake("a")}


class BrakingMachine(RuleBasedStateMachine):
    """One proxy and its store: what is in force here is what the store has once it has caught up."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy = Proxy()
        self.number = 0
        self.store: dict[str, Brake] = {}
        self.on_the_way: list[list[Command]] = []

    def carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if command[0] == "trip":
                self.store.setdefault(command[1][1], Brake(*command[1]))
            else:
                self.store.pop(command[1], None)

    @rule(agent=AGENTS)
    def trip(self, agent: str) -> None:
        self.number += 1
        self.proxy.braking.trip(brake(agent, self.number))
        assert agent in self.proxy.braking.active

    @rule(agent=AGENTS)
    def clear(self, agent: str) -> None:
        self.number += 1
        self.proxy.braking.clear(agent, float(self.number), "somebody")
        assert agent not in self.proxy.braking.active

    @rule()
    def send(self) -> None:
        self.on_the_way.append(self.proxy.braking.take())

    @rule()
    def write(self) -> None:
        if self.on_the_way:
            commands = self.on_the_way.pop(0)
            self.carry_out(commands)
            self.proxy.braking.written(commands)

    @rule()
    def look(self) -> None:
        self.proxy.braking.listed(dict(self.store))

    @invariant()
    def last_told_is_in_force(self) -> None:
        assert (self.proxy.told[-1] if self.proxy.told else {}) == self.proxy.braking.active

    def teardown(self) -> None:
        in_force = set(self.proxy.braking.active)
        self.send()
        while self.on_the_way:
            self.write()
        assert set(self.store) == in_force
        self.look()
        assert self.proxy.braking.active == self.store
        assert self.proxy.braking.left == 0


TestBraking = BrakingMachine.TestCase
