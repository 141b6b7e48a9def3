// The page: events in, agents kept up to date.  Everything comes from this proxy, and goes nowhere else.

import { Agent, budgetsOf, problems } from "./agent.js";
import { allow, order } from "./act.js";
import { count, el, moment } from "./draw.js";

const AGAIN = 5000; // milliseconds until a stream that was refused is asked for again
const OPEN = 3; // agents that are shown in full at first
const at = (id) => document.getElementById(id);

const agents = new Map();
let verdicts = {};

function show(live) {
  at("environment").textContent = live.environment;
  at("environment").hidden = false;
  document.title = `Splitlane · ${live.environment}`;
  const facts = [["Policy", el("code", {}, live.policy)], ["In flight", count(live.in_flight)],
    ["Up since", moment(live.started)], ["Version", live.version]];
  at("facts").replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  notes(live);
  at("shared").hidden = !live.budgets.length;
  if (live.budgets.length) {
    at("shared").replaceChildren(el("h2", {}, "Budget of all agents"), ...budgetsOf(live.budgets, ""));
  }
  const list = at("agents");
  for (const [name, agent] of agents) {
    if (live.agents.some((each) => each.agent === name)) continue;
    agent.element.remove();
    agents.delete(name);
  }
  for (const each of live.agents) {
    let agent = agents.get(each.agent);
    if (!agent) {
      agent = new Agent(each.agent, order, agents.size < OPEN || each.status !== "OK");
      agents.set(each.agent, agent);
      list.append(agent.element);
      tell(agent);
    }
    agent.live(each, live);
  }
  allow(live.may_act);
}

function notes(live) {
  const found = [
    live.readiness === "draining" && ["warn", "This proxy is draining: it takes no new requests."],
    live.rejected && ["bad", `The policy file has ${live.rejected} problem(s), and the last good policy stays: /policy lists them.`],
    live.switched_off && ["warn", `The ramp does nothing: ${live.switched_off}.`],
    !live.stored && ["", problems.no_store],
  ].filter(Boolean);
  const key = JSON.stringify(found);
  if (at("notes").dataset.key === key) return;
  at("notes").dataset.key = key;
  at("notes").replaceChildren(...found.map(([kind, text]) => el("p", { class: `note ${kind}` }, text)));
}

function tell(agent) {
  const { verdict = null, arms = null } = verdicts.agents?.[agent.name] ?? {};
  const problem = verdicts.problem ?? (verdicts.agents && !verdict ? "the report does not have this agent yet" : null);
  agent.told(verdict, arms?.finetuned || arms?.baseline ? arms : null, problem, verdicts.generated_at);
}

function listen() {
  const stream = new EventSource("/dashboard/events");
  const connection = (text, kind) => {
    if (at("connection").textContent !== text) at("connection").textContent = text;
    at("connection").className = `pulse ${kind}`;
  };
  stream.addEventListener("live", (event) => {
    show(JSON.parse(event.data));
    connection("Live", "good");
  });
  stream.addEventListener("verdicts", (event) => {
    verdicts = JSON.parse(event.data);
    agents.forEach(tell);
  });
  stream.addEventListener("error", () => {
    connection("No connection, trying again …", "bad");
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN);
  });
}

listen();
