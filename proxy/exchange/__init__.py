"""The request path.  Start at `exchange.Exchange.handle`."""
