"""Pure: bytes in, bytes out.  JSON splice, event streams, header fields, usage, error bodies."""
