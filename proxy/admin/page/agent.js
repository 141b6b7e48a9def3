// One agent: a line that sums it up, and behind it what it rests on.

import { bar, coded, count, day, dollars, drawn, el, figure, harm, interval, lines, moment, percent, rate, seconds, share,
  span, thousand, words } from "./draw.js";

const SLOTS = 90; // points of the live chart: three minutes
const FEW = 3; // reasons that are shown at once
const GATES = {
  success: "Success", first_attempt: "First attempt", fallback_rate: "Rescued", latency_p95: "Slow requests",
  latency_mean: "Mean latency", cost: "Cost of 1000", feedback: "Rating",
};
const ARMS = [["finetuned", "Fine-tuned"], ["baseline", "Baseline"]];
const EXCEEDED = {
  baseline: "then the baseline serves", reject: "then requests are refused", warn: "then a warning is logged",
};
// A recommendation's action → how it looks.
const LOOKS = { proceed: "good", complete: "good", approve: "good", roll_back: "bad", stopped: "bad", brake: "bad",
  pause: "bad", paused: "warn" };

const MOVING = new Set(["proceed", "approve", "start"]); // where an advance is what is recommended

/** Builds an agent's part of the page once, and keeps it up to date. */
export class Agent {
  constructor(name, order, open) {
    this.name = name;
    this.history = [];
    this.before = null;
    this.slots = {};
    this.seen = {};
    const slot = (part, tag = "div", attributes = {}) => (this.slots[part] = el(tag, { class: part, ...attributes }));
    const block = (title, part) =>
      el("section", { class: "block", "aria-label": `${title}: ${name}` }, el("h3", {}, title), slot(part));
    this.buttons = ORDERS.map(([verb, label, kind]) => {
      const button = el("button", { type: "button", class: kind, "aria-label": `${label} ${name}` }, label);
      button.addEventListener("click", () => order(verb, this));
      return [verb, button];
    });
    const actions = this.buttons.map(([, button]) => button);
    this.element = el(
      "details",
      { class: "agent", id: `agent-${name}`, open },
      el("summary", {}, el("h2", {}, name), slot("sum", "span")),
      slot("models", "p"),
      slot("verdict"),
      slot("ramp"),
      el("div", { class: "actions", role: "group", "aria-label": `Actions on ${name}` }, actions),
      el(
        "div",
        { class: "blocks" },
        el("div", { class: "column" },
          block("Gates: the fine-tune against the baseline", "gates"), block("Both arms", "arms")),
        el("div", { class: "column" },
          block("Now", "now"), block("Safety", "safety"), block("Fallbacks by reason", "fallbacks")),
      ),
      block("Decisions", "decisions"),
    );
  }

  /** What this process sees, every two seconds. */
  live(agent, all) {
    this.agent = agent;
    this.all = all;
    this.#remember(agent, all.now);
    this.#render();
  }

  /** What the store's report says; null: nothing, or not yet. */
  told(verdict, arms, problem, asOf) {
    Object.assign(this, { verdict, stored: arms, problem, asOf });
    if (this.agent) this.#render();
  }

  /** Where an advance leads; null: nowhere, or unknown. */
  get next() {
    const step = this.all.steps.find((each) => each.percent > this.agent.percentage);
    return step ? step.percent : null;
  }

  #remember(agent, now) {
    const sums = Object.fromEntries(ARMS.map(([arm]) => [arm, agent.since_start[arm].requests]));
    if (this.before && now > this.before.now) {
      const passed = now - this.before.now;
      const point = Object.fromEntries(ARMS.map(([arm]) => [arm, Math.max(0, sums[arm] - this.before.sums[arm]) / passed]));
      this.history = [...this.history, point].slice(-SLOTS);
    }
    this.before = { now, sums };
  }

  #render() {
    const { agent, all, verdict } = this;
    const put = (part, facts, made) => {
      const key = JSON.stringify(facts);
      if (this.seen[part] === key) return; // what has not changed keeps its place, and a reader's
      this.seen[part] = key;
      this.slots[part].replaceChildren(...[made()].flat().filter((child) => child !== null));
    };
    const state = [agent.status, agent.reasons, agent.percentage, verdict];
    put("sum", state, () => summary(agent, verdict));
    put("models", agent.models, () => [
      el("span", { class: "finetuned key" }, "Fine-tuned "), el("code", {}, agent.models.finetuned), " ",
      el("span", { class: "baseline key" }, "Baseline "), el("code", {}, agent.models.baseline),
    ]);
    put("verdict", [verdict, this.problem], () => verdictOf(verdict, this.problem));
    put("ramp", [agent.percentage, all.steps, verdict], () => rampOf(agent, all.steps, verdict));
    put("gates", [verdict, this.problem], () => gatesOf(verdict, this.problem));
    put("now", [this.history, agent.finetuned, agent.baseline], () => nowOf(agent, this.history, all.window));
    put("arms", [this.stored, this.stored ? this.asOf : agent.since_start], () => armsOf(this.stored, agent.since_start, this.asOf));
    put("safety", [agent.breaker, agent.brake, agent.budgets, verdict?.health], () => safetyOf(agent, verdict));
    put("fallbacks", [agent.fallbacks, this.stored], () => fallbacksOf(agent.fallbacks, this.stored));
    put("decisions", verdict?.decisions, () => decisionsOf(verdict));
    const held = verdict?.hold?.kind;
    const useful = {
      advance: this.next !== null, pause: held !== "paused", resume: !verdict || held === "paused",
      rollback: agent.percentage > 0, clear: !verdict || held === "failed" || agent.brake !== null,
    };
    const bad = LOOKS[verdict?.action] === "bad";
    const first = bad ? "rollback" : MOVING.has(verdict?.action) ? "advance" : "";
    for (const [verb, button] of this.buttons) {
      button.hidden = !useful[verb];
      button.classList.toggle("primary", verb === first);
    }
  }
}

const ORDERS = [
  ["advance", "Advance", ""], ["pause", "Pause", ""], ["resume", "Resume", ""],
  ["clear", "Clear", ""], ["rollback", "Roll back", "danger"],
];

function badge(text, kind) {
  return el("span", { class: `badge ${kind}` }, text);
}

function summary(agent, verdict) {
  const kind = { OK: "good", SLOW: "warn", ERROR: "bad" }[agent.status];
  const why = agent.reasons.length ? `: ${agent.reasons.map(words).join(", ")}` : "";
  const eta = verdict?.action === "hold" && verdict.eta_seconds ? ` ${span(verdict.eta_seconds)}` : "";
  return [
    badge(`${agent.status}${why}`, kind),
    verdict && badge(words(verdict.action) + eta, LOOKS[verdict.action] ?? ""),
    el("span", { class: "share" }, bar(agent.percentage / 100, `${percent(agent.percentage)} of the users`),
      el("strong", {}, percent(agent.percentage)), agent.brake ? " of users, none while braked" : " of users"),
  ].filter(Boolean);
}

export const problems = {
  no_store: "No verdicts: the policy keeps no records. With store.url in it, gates, intervals and waits appear here.",
};

function verdictOf(verdict, problem) {
  if (!verdict) {
    if (!problem) return el("p", { class: "quiet" }, "The verdict is being worked out …");
    return el("p", { class: "quiet" }, problems[problem] ?? `No verdict: ${problem}.`);
  }
  const reasons = [...verdict.reasons, ...verdict.warnings.map((each) => ({ ...each, warning: true }))];
  const line = (each) =>
    el("li", {}, el("code", {}, each.metric ? `${each.code}(${each.metric})` : each.code),
      each.warning ? " (a warning)" : "", ...(each.detail ? [" ", ...coded(each.detail)] : []),
      each.eta_seconds ? `, about ${span(each.eta_seconds)} more` : "");
  const list = el("ul", { class: "reasons", "aria-label": "Reasons" }, reasons.map(line));
  const many = reasons.length > FEW;
  return el(
    "div",
    { class: `advice ${LOOKS[verdict.action] ?? ""}` },
    el("p", { class: "recommendation" }, coded(verdict.recommendation)),
    reasons.length ? (many ? el("details", {}, el("summary", {}, `All ${reasons.length} reasons`), list) : list) : null,
  );
}

function rampOf(agent, steps, verdict) {
  const here = agent.percentage;
  const marks = new Set([0, here, ...steps.map((step) => step.percent)]);
  const next = steps.find((step) => step.percent > here);
  const stages = new Map((verdict?.stages ?? []).map((stage) => [stage.percentage, stage]));
  const list = [...marks].sort((a, b) => a - b).map((mark) => {
    const stage = stages.get(mark);
    const step = steps.find((each) => each.percent === mark);
    const kind = mark === here ? "here" : mark < here ? "done" : mark === next?.percent ? "next" : "later";
    const told = {
      here: verdict?.stage_since ? ["since ", day(verdict.stage_since)] : ["now"],
      next: [step?.approval ? "next, if approved" : "next"],
    }[kind] ?? [];
    const people = stage && mark > 0 ? `${count(stage.users.finetuned)} users` : null;
    return el("li", { class: kind, "aria-current": kind === "here" ? "step" : null },
      el("span", { class: "mark" }, percent(mark)), el("span", { class: "told" }, told), people && el("span", { class: "told" }, people));
  });
  return el("ol", { "aria-label": "Steps of the ramp: share of users on the fine-tune" }, list);
}

function gatesOf(verdict, problem) {
  if (!verdict) return el("p", { class: "quiet" }, problem ? "Gates are read from the store." : "…");
  if (!verdict.gates.length) return el("p", { class: "quiet" }, "The policy sets no gate.");
  const rows = verdict.gates.map(drawn).map((gate) => {
    const title = GATES[gate.gate] ?? words(gate.gate);
    const [text, limit] = harm(gate);
    const unread = gate.reason?.code === "INSUFFICIENT_USERS" ? `too little data: ${gate.reason.detail}` : "no numbers yet";
    return el("tr", {},
      el("th", { scope: "row" }, title, el("small", {}, gate.kind)),
      el("td", { "data-label": "Fine-tuned" }, figure(gate, gate.finetuned)),
      el("td", { "data-label": "Baseline" }, gate.ceiling ? "" : figure(gate, gate.baseline)),
      el("td", { class: "drawn" }, gate.estimate === null ? el("small", {}, unread) : [
        interval(gate, `${title}: worse by ${text}, ${limit}`),
        el("span", { class: "bounds" }, text, el("small", {}, limit)),
      ]),
      el("td", { class: "outcome" }, badge(gate.outcome, { pass: "good", fail: "bad", hold: "warn" }[gate.outcome])));
  });
  return [
    table(["Metric", "Fine-tuned", "Baseline", "Worse by (negative: better)", "Verdict"], rows, "gates"),
    el("p", { class: "quiet" }, "The dot is the estimate, the line its interval, which holds at every look. "
      + "Shaded is what is not allowed: a gate passes when its whole interval lies left of it."),
  ];
}

function nowOf(agent, history, window) {
  const last = history.at(-1);
  const top = Math.max(...history.flatMap((point) => [point.finetuned, point.baseline]), 1);
  const text = ARMS.map(([arm, title]) => `${title} ${last ? rate(last[arm]) : "–"}`).join(", ");
  const rows = [["Requests", (arm) => count(arm.requests)], ["Failed", (arm) => count(arm.failed)],
    ["Rescued", (arm) => count(arm.rescued)], ["p95", (arm) => seconds(arm.p95_seconds)]];
  return [
    el("p", { class: "legend" }, ARMS.map(([arm, title]) =>
      el("span", { class: `${arm} key` }, `${title} `, el("strong", {}, last ? rate(last[arm]) : "–")))),
    lines(history, SLOTS, top, `Requests a second, the last three minutes. Now: ${text}`),
    el("p", { class: "quiet" }, `Requests a second, three minutes, 0 … ${rate(top)}`),
    table([`Last ${Math.round(window / 60)} minutes`, "Fine-tuned", "Baseline"], rows.map(([title, value]) =>
      row(title, value(agent.finetuned), value(agent.baseline)))),
  ];
}

function armsOf(stored, sinceStart, asOf) {
  const arms = stored ?? sinceStart;
  const at = (field, part) => (arm) => seconds(arm?.[field]?.[part]);
  const rows = [
    ...(stored ? [["Users", (arm) => count(arm?.users)]] : []),
    ["Requests", (arm) => count(arm?.requests)],
    ["Success", (arm) => share(arm?.success)],
    ...(stored ? [["First attempt", (arm) => share(arm?.first_attempt)]] : []),
    ["Latency p50", at("latency_seconds", "p50")], ["Latency p95", at("latency_seconds", "p95")],
    ["First token p50", at("ttft_seconds", "p50")], ["First token p95", at("ttft_seconds", "p95")],
    ["Cost of 1000", (arm) => thousand(arm?.cost_usd_per_request)],
  ];
  const title = stored ? ["Last 24 hours, as of ", moment(asOf)] : "This proxy, since its start";
  return table([title, "Fine-tuned", "Baseline"],
    rows.map(([name, value]) => row(name, value(arms.finetuned), value(arms.baseline))));
}

function safetyOf(agent, verdict) {
  const open = agent.breaker === "open";
  const brake = agent.brake;
  const why = brake?.evidence?.reasons
    ? Object.entries(brake.evidence.reasons).map(([reason, number]) => `${number} × ${words(reason)}`).join(", ") : "";
  const facts = [
    ["Brake", brake ? badge("tripped", "bad") : badge("not tripped", "good"), brake ? [" since ", moment(brake.tripped_at), why ? `: ${why}` : ""] : ""],
    ["Breaker", badge(agent.breaker, open ? "bad" : "good"), open ? " the fine-tune is not asked" : ""],
  ];
  if (verdict?.hold) facts.push(["Held", badge(verdict.hold.kind, "warn"), [" since ", moment(verdict.hold.time), verdict.hold.reason ? `: ${verdict.hold.reason}` : ""]]);
  if (verdict && verdict.health.srm_p !== null) {
    facts.push(["Split", badge(verdict.health.srm_p < 0.001 ? "mismatch" : "as it should be", verdict.health.srm_p < 0.001 ? "bad" : "good"), ` p = ${verdict.health.srm_p.toPrecision(2)}`]);
  }
  return [
    el("dl", { class: "states" }, facts.flatMap(([name, mark, more]) => [el("dt", {}, name), el("dd", {}, mark, more)])),
    ...budgetsOf(agent.budgets, "No budget of its own."),
  ];
}

/** Limits with what is spent of them. */
export function budgetsOf(budgets, none) {
  if (!budgets.length) return [el("p", { class: "quiet" }, none)];
  return budgets.map((budget) => {
    const part = budget.spent / budget.limit;
    const text = `${dollars(budget.spent)} of ${dollars(budget.limit)} this ${budget.window}`;
    return el("div", { class: "budget" },
      el("p", {}, el("strong", {}, text), ` until `, moment(budget.resets_at), `, ${EXCEEDED[budget.on_exceeded]}`),
      bar(part, text, part >= 1 ? "bad" : part >= 0.8 ? "warn" : ""));
  });
}

function fallbacksOf(fallbacks, stored) {
  const kept = stored?.finetuned?.fallbacks ?? {};
  const reasons = [...new Set([...Object.keys(fallbacks), ...Object.keys(kept)])]
    .sort((a, b) => (kept[b] ?? 0) - (kept[a] ?? 0) || (fallbacks[b] ?? 0) - (fallbacks[a] ?? 0));
  if (!reasons.length) return el("p", { class: "quiet" }, "No request had to be rescued.");
  const columns = ["Reason", "This proxy", ...(stored ? ["24 hours"] : [])];
  return table(columns, reasons.map((reason) =>
    row(words(reason), count(fallbacks[reason] ?? 0), ...(stored ? [count(kept[reason] ?? 0)] : []))));
}

function decisionsOf(verdict) {
  if (!verdict?.decisions.length) return el("p", { class: "quiet" }, "None yet.");
  return el("ul", { class: "history" }, verdict.decisions.map((each) =>
    el("li", {}, moment(each.time), " ", el("strong", {}, words(each.action)), ` at ${percent(each.percentage)}`,
      each.target === null ? "" : ` → ${percent(each.target)}`, ` by ${each.actor}`,
      each.reasons.length ? `: ${each.reasons.join(", ")}` : "")));
}

function row(title, ...cells) {
  return el("tr", {}, el("th", { scope: "row" }, title), cells.map((cell) => el("td", {}, cell)));
}

function table(columns, rows, kind = "") {
  return el("table", { class: kind },
    el("thead", {}, el("tr", {}, columns.map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, rows));
}
