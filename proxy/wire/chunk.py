"""One chunk of a chunked body (RFC 9112 §7.1) as it came off the wire."""

from typing import Final

# The last bytes of one that ends with an event of a stream.
END_OF_EVENT: Final = b"\n\n\r\n"

_CR: Final = 0x0D
_LF: Final = 0x0A
# Hexadecimal digits of a size: a quarter of a gigabyte, more than any read brings.
_DIGITS: Final = 7


def is_whole_chunk(data: bytes) -> bool:
    """Whether `data`, read where a chunk begins, is that chunk, all of it and nothing else.

    False where it has an extension, or is the last one: those are the parser's to read.
    """
    length = len(data)
    size = at = 0
    while at < length and at <= _DIGITS:
        digit = data[at]
        if 0x30 <= digit <= 0x39:
            size = size * 16 + digit - 0x30
        elif 0x61 <= digit <= 0x66:
            size = size * 16 + digit - 0x57
        elif 0x41 <= digit <= 0x46:
            size = size * 16 + digit - 0x37
        else:
            break
        at += 1
    # digits CR LF data CR LF
    return (
        size > 0
        and length == at + size + 4
        and at <= _DIGITS
        and data[at] == _CR
        and data[at + 1] == _LF
        and data[length - 2] == _CR
        and data[length - 1] == _LF
    )
