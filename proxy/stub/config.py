"""What a person writes to set up a stub."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from proxy.stub.faults import Fault, parse_fault
from proxy.words import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class StubConfig:
    """One stub upstream. Times are seconds, sizes bytes.

    `models` are the model names the stub knows; None: it knows every model. `faults` maps a model
    glob to a `Fault` or to its spec (`proxy.stub.faults`); where several match, the first one wins.
    """

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    dialect: Dialect = Dialect.OPENAI
    models: tuple[str, ...] | None = None
    faults: Mapping[str, Fault | str] = field(default_factory=dict)
    latency: float = 0.0  # before the headers of every answer
    tokens_per_second: float = 0.0  # 0: as fast as the socket takes them
    words: int = 12  # length of an answer where the request asks for none
    seed: int = 0  # of the faults with a probability
    max_body: int = 64 << 20
    max_calls: int = 10_000  # the log forgets its oldest calls above this number …
    max_log: int = 256 << 20  # … or above this size of their bodies
    tls: ssl.SSLContext | None = None

    def fault_rules(self) -> list[Fault]:
        """Return the faults, each with its model glob.

        Raises:
            FaultError: a spec cannot be read.

        """
        return [
            replace(parse_fault(fault) if isinstance(fault, str) else fault, model=model)
            for model, fault in self.faults.items()
        ]
