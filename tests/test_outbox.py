"""Writes of one turn of the loop go out together, at its end."""

import asyncio

from proxy.outbox import Outbox


class Wire(asyncio.Transport):
    """The network's end of a transport: keeps what is written, and in which order over all of them."""

    def __init__(self, name: str, written: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self._name = name
        self._written = written
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed:
            raise RuntimeError("the handler is closed")  # as uvloop says
        self._written.append((self._name, bytes(data)))


async def test_messages_of_one_turn_go_out_in_order_when_it_ends() -> None:
    written: list[tuple[str, bytes]] = []
    one, other = Wire("one", written), Wire("other", written)
    outbox = Outbox(asyncio.get_running_loop())
    for turn in range(2):
        written.clear()
        outbox.write(one, b"1")
        outbox.write(other, b"2")
        outbox.write(one, b"3")
        assert written == [], turn
        await asyncio.sleep(0)
        assert written == [("one", b"1"), ("other", b"2"), ("one", b"3")]


async def test_flush_writes_now_and_nothing_twice() -> None:
    written: list[tuple[str, bytes]] = []
    outbox = Outbox(asyncio.get_running_loop())
    outbox.write(Wire("one", written), b"1")
    outbox.flush()
    assert written == [("one", b"1")]
    outbox.flush()
    await asyncio.sleep(0)
    assert written == [("one", b"1")]


async def test_closed_transport_takes_no_other_message_with_it() -> None:
    written: list[tuple[str, bytes]] = []
    gone, other = Wire("gone", written), Wire("other", written)
    outbox = Outbox(asyncio.get_running_loop())
    outbox.write(gone, b"1")
    outbox.write(other, b"2")
    gone.closed = True
    outbox.flush()
    assert written == [("other", b"2")]
