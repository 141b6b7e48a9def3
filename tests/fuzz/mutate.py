"""Changes inputs blindly, for the short run of the tests: a seed gives the same inputs on every machine."""

from collections.abc import Iterator, Sequence
from random import Random

LONGEST = 4096


def mutants(corpus: Sequence[bytes], tokens: Sequence[bytes], random: Random) -> Iterator[bytes]:
    """Inputs without end, each a corpus entry after one to five changes."""
    while True:
        data = bytearray(random.choice(corpus))
        for _ in range(random.randint(1, 5)):
            _change(data, corpus, tokens, random)
        yield bytes(data[:LONGEST])


def _change(data: bytearray, corpus: Sequence[bytes], tokens: Sequence[bytes], random: Random) -> None:
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice((1, 1, 2, 4, 8, 32)))
    match random.randint(0, 6):
        case 0:
            data[start:end] = b""
        case 1:
            data[start:start] = random.choice(tokens)
        case 2:
            data[start:end] = random.choice(tokens)
        case 3:
            data[start:end] = random.randbytes(random.choice((1, 1, 2, 4)))
        case 4:
            data[start:start] = data[start:end] * random.choice((1, 2, 16))
        case 5 if start < len(data):
            data[start] ^= 1 << random.randint(0, 7)
        case _:
            other = random.choice(corpus)
            data[start:] = other[random.randint(0, len(other)) :]
