"""The sockets, the client's connection, and an orderly end."""
