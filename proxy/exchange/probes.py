"""Health probes: a model that nobody has asked of late is asked for one token, to see whether it is there.

Laws:

- One probe at a time; each model, whichever agents share it, once in `every` at most, and not at all where it has
  answered a request since its last turn.
- A probe has connections of its own and is paid for as a copy is: no request waits for it, or meets a spent budget
  because of it.
- No breaker, brake, retry budget, record, comparison or metric of requests hears of it.
- What it holds is given back however it ends.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from random import random
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric

from proxy.budget.budgets import Budgets
from proxy.exchange.attempts import ask_aside, retry_after
from proxy.exchange.call import used
from proxy.exchange.reply import Reply
from proxy.exchange.request import copy_head
from proxy.exchange.send import discard
from proxy.outbox import Outbox
from proxy.policy.snapshot import AgentPolicy, Policy, ProbePolicy, Target, UpstreamPolicy
from proxy.tasks import spawn
from proxy.telemetry.metrics import Metrics
from proxy.upstream.pool import Pools
from proxy.wire.usage import BYTES_PER_TOKEN
from proxy.words import Failure, Usage, Variant

log: Final = logging.getLogger("splitlane.exchange")

# Probes of a model that fail in a row before it counts as gone: one may be bad luck.
IN_A_ROW: Final = 2
# How long a model is left alone after its upstream has said that there are too many requests, seconds: at least,
# and at most, whatever it asks for.
PAUSE: Final = 60.0
LONGEST_PAUSE: Final = 3600.0
# How long a probe that is cut at the end may take to go, seconds.
CUT_GRACE: Final = 0.2

_PATH: Final = b"/v1/chat/completions"
# `max_tokens`: an old server that does not know `max_completion_tokens` would write a whole answer.
_QUESTION: Final = b'{"model":%b,"messages":[{"role":"user","content":"Say yes."}],"max_tokens":1,"stream":false}'
# It takes a model that is there to answer so, or to have so little to say in one token.
_ALIVE: Final = frozenset({Failure.BAD_REQUEST, Failure.CONTENT_FILTER, Failure.CONTEXT_LENGTH, Failure.EMPTY})


class ProbedModel:
    """A model at an upstream, and what asking it has shown."""

    at = 0.0  # Unix time of the last probe; 0: there was none
    seconds = 0.0  # that it took
    failure: Failure | None = None  # … and how it ended
    failures = 0  # in a row
    asked = 0
    paused_until = 0.0  # loop time

    def __init__(self, target: Target, answers: int) -> None:
        self.target = target
        self.arms: list[tuple[AgentPolicy, Variant]] = []  # whose it is; probes are on their behalf in turn
        self.answers = answers  # to requests, when it was looked at last


class Probes:
    """Asks models; owns the one task, its connections and what was found."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox, budgets: Budgets, metrics: Metrics) -> None:
        self.models: dict[tuple[UpstreamPolicy, str], ProbedModel] = {}
        self.counts: defaultdict[tuple[str, str, str], int] = defaultdict(int)  # by agent, variant, outcome
        self._loop = loop
        self._budgets = budgets
        self._metrics = metrics
        self._pools = Pools(loop, outbox)
        self._policy: Policy | None = None
        self._probe: ProbePolicy | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = -1
        self._stopped = False

    def follow(self, policy: Policy) -> None:
        """Probe the models of `policy` from now on; what is known of those that stay is kept."""
        self._policy = policy
        self._pools.keep(policy.upstreams.values())
        self.models = self._wanted(policy)
        names = {agent.name for agent in policy.agents.values()}
        for key in [key for key in self.counts if key[0] not in names]:
            del self.counts[key]
        if self._stopped or policy.probe == self._probe:
            return
        self._probe = probe = policy.probe
        if self._task is not None:
            self._task.cancel()
        self._task = None if probe is None else spawn(self._run(probe.every), "probes")

    async def stop(self) -> None:
        """Ask nobody any more."""
        self._stopped = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=CUT_GRACE)
        self._pools.close_idle()

    def of(self, target: Target) -> ProbedModel | None:
        """What is known of a model; None where it is not probed."""
        return self.models.get((target.upstream, target.model))

    def is_failing(self, model: ProbedModel) -> bool:
        """Whether its last probes have failed, and no request says otherwise."""
        return model.failures >= IN_A_ROW and self._answers(model) <= model.answers

    async def turn(self) -> None:
        """Ask the model whose turn it is, if that can tell anything new."""
        models = list(self.models.values())
        if not models:
            return
        self._turn = (self._turn + 1) % len(models)
        model = models[self._turn]
        answers, before = self._answers(model), model.answers
        model.answers = answers
        if answers > before:
            model.failures = 0
        elif self._loop.time() >= model.paused_until:
            await self._ask(model)

    def collect(self) -> Iterator[Metric]:
        """Probes as Prometheus sees them, apart from requests."""
        family = CounterMetricFamily(
            "splitlane_probes", "Health probes by outcome.", labels=["agent", "variant", "outcome"]
        )
        arms = {(agent.name, variant.value) for model in self.models.values() for agent, variant in model.arms}
        for key, count in {**{(*arm, "success"): 0 for arm in sorted(arms)}, **self.counts}.items():
            family.add_metric(key, count)
        yield family

    def _wanted(self, policy: Policy) -> dict[tuple[UpstreamPolicy, str], ProbedModel]:
        """The models that can be asked: those in use, with a key of ours and a price to count."""
        found: dict[tuple[UpstreamPolicy, str], ProbedModel] = {}
        probe = policy.probe
        if probe is None:
            return found
        for agent in policy.agents.values():
            arms = [(Variant.FINETUNED, agent.finetuned)] if probe.finetuned else []
            for variant, target in [*arms, (Variant.BASELINE, agent.baseline)]:
                if target.price is None or target.upstream.authorization is None:
                    continue
                key = (target.upstream, target.model)
                model = found.get(key)
                if model is None:
                    model = found[key] = self.models.get(key) or ProbedModel(target, -1)
                    model.target = target
                    model.arms = []
                model.arms.append((agent, variant))
        for model in found.values():
            if model.answers < 0:
                model.answers = self._answers(model)
        return found

    def _answers(self, model: ProbedModel) -> int:
        """How many requests it has answered well, as far as metrics tell."""
        agents = {agent.name for agent, _ in model.arms}
        return sum(
            series.successes
            for (agent, _, served), series in self._metrics.series()
            if served == model.target.model and agent in agents
        )

    async def _run(self, every: float) -> None:
        """A turn for each model in `every` seconds, evenly spread; proxies that start together begin apart."""
        loop = self._loop
        pause = random() * every / max(1, len(self.models))
        due = loop.time() + pause
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            try:
                await self.turn()
            except Exception:
                log.exception("a health probe failed inside the proxy")
            due = max(due + every / max(1, len(self.models)), loop.time())

    async def _ask(self, model: ProbedModel) -> None:
        policy, probe, target = self._policy, self._probe, model.target
        assert policy is not None
        assert probe is not None
        assert target.price is not None
        agent, variant = model.arms[model.asked % len(model.arms)]
        model.asked += 1
        body = _QUESTION % target.model_json
        expected = Usage(len(body) // BYTES_PER_TOKEN, 1)
        held = self._budgets.admit_probe(policy, agent, target.price, expected, probe.daily_usd, time.time())
        if held is None:
            model.failures = 0  # what was found is too old to be held against it
            self.counts[agent.name, variant.value, Failure.BUDGET.value] += 1
            return
        started = self._loop.time()
        timeouts = replace(target.upstream.timeouts, first_byte=probe.timeout, idle=probe.timeout, total=probe.timeout)
        reply = Reply(self._loop, timeouts, started + probe.timeout)
        cost = 0.0
        try:
            request = copy_head(_PATH, target.upstream, len(body)) + body
            await ask_aside(self._pools.of(target.upstream), request, reply, started + probe.timeout, self._loop)
            usage = used(reply, len(body))
            cost = 0.0 if usage is None else target.price.of(usage)
        finally:
            discard(reply)
            self._budgets.settle(held, cost, None)
        failure = None if reply.failure in _ALIVE else reply.failure
        if failure is Failure.RATE_LIMITED:
            asked_for = retry_after(reply, time.time()) or 0.0
            model.paused_until = self._loop.time() + min(max(asked_for, PAUSE), LONGEST_PAUSE)
        self._note(model, failure, self._loop.time() - started)
        self.counts[agent.name, variant.value, "success" if failure is None else failure.value] += 1

    def _note(self, model: ProbedModel, failure: Failure | None, seconds: float) -> None:
        """What a probe has shown; the log has it when it becomes bad news, and when that is over."""
        where = (model.target.model, model.target.upstream.name)
        if failure is None and model.failures >= IN_A_ROW:
            log.info("health: %s at %s answers again", *where)
        model.at, model.seconds, model.failure = time.time(), seconds, failure
        model.failures = 0 if failure is None else model.failures + 1
        if model.failures == IN_A_ROW:
            log.warning("health: %s at %s failed %d probes in a row (%s)", *where, IN_A_ROW, failure)
