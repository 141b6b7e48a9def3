// What a person may do: the token, one question before each order, and what came of it.

import { el, percent } from "./draw.js";

const KEY = "splitlane-admin-token";
const at = (id) => document.getElementById(id);
const [unlock, ask, lock, outcome] = ["unlock", "ask", "lock", "outcome"].map(at);

let mayAct = true;
let pending = null; // the order that waits for a token, or for an answer
let under = null; // where the focus goes back to

const token = () => sessionStorage.getItem(KEY) ?? "";

/** Whether this proxy takes orders at all. */
export function allow(allowed) {
  mayAct = allowed;
  lock.disabled = !allowed;
  lock.textContent = !allowed ? "No actions: no admin token" : token() ? "Lock actions" : "Unlock actions";
  for (const button of document.querySelectorAll(".actions button")) button.disabled = !allowed;
}

/** Ask about an order on an agent; without a token, ask for that first. */
export function order(verb, agent) {
  pending = { verb, agent };
  under = document.activeElement;
  if (token()) question();
  else unlock.showModal();
}

const QUESTIONS = {
  advance: (agent) => [`Advance ${agent.name} to ${percent(agent.next)}?`,
    `It moves only where nothing stands against it. You approve the step by asking for it.`, "Advance", ""],
  pause: (agent) => [`Pause ${agent.name}?`,
    `It stays at ${percent(agent.agent.percentage)}, whatever the gates say, until somebody resumes it. The brake still works.`,
    "Pause", "required"],
  resume: (agent) => [`Resume ${agent.name}?`, "The gates decide again.", "Resume", null],
  rollback: (agent) => [`Roll ${agent.name} back to 0 %?`,
    "The baseline serves everybody at once, and until somebody clears it.", "Roll back", ""],
  clear: (agent) => [`Clear ${agent.name}?`,
    "Its brake is taken back and what has failed is released: the fine-tune may serve again. The same data fails again, unless the model or the salt has changed.",
    "Clear", null],
};

function question() {
  const [title, text, yes, reason] = QUESTIONS[pending.verb](pending.agent);
  at("ask-title").textContent = title;
  at("ask-text").textContent = text;
  at("ask-yes").textContent = yes;
  at("ask-yes").classList.toggle("danger", pending.verb === "rollback");
  at("ask-reason").hidden = reason === null || pending.verb === "advance";
  at("reason").required = reason === "required";
  at("reason").value = "";
  at("ask-problem").replaceChildren();
  busy(false);
  ask.showModal();
}

function busy(is) {
  at("ask-yes").disabled = is;
  ask.toggleAttribute("aria-busy", is);
}

async function obey() {
  const { verb, agent } = pending;
  const reason = at("ask-reason").hidden ? "" : at("reason").value.trim();
  busy(true);
  try {
    const answer = await fetch(`/rollout/${verb}?agent=${encodeURIComponent(agent.name)}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${token()}`, ...(reason && { "Content-Type": "application/json" }) },
      body: reason ? JSON.stringify({ reason }) : null,
    });
    const told = await answer.json();
    if (answer.ok) done(verb, agent, told);
    else refused(answer.status, told.error);
  } catch {
    problem("The proxy did not answer. Look before you try again: it may have been done.");
  } finally {
    busy(false);
  }
}

function done(verb, agent, told) {
  ask.close();
  const step = told.agents?.[0];
  let text = `${agent.name}: nothing to change.`;
  if (verb === "clear" && (told.cleared || told.released)) text = `${agent.name}: cleared.`;
  else if (step && step.from !== step.to) text = `${agent.name}: ${percent(step.from)} → ${percent(step.to)}.`;
  else if (step) text = `${agent.name}: ${verb} done.`;
  else if (told.files?.length) text = `${agent.name}: ${verb} done.`;
  const notes = [told.problem, ...(told.notes ?? [])].filter(Boolean);
  outcome.textContent = [text, ...notes].join(" ");
  outcome.hidden = false;
}

function refused(status, error) {
  if (status === 401) {
    sessionStorage.removeItem(KEY);
    allow(mayAct);
    problem("The proxy does not take this token. Cancel, and unlock with the right one.");
    return;
  }
  const reasons = (error.reasons ?? []).map((each) =>
    el("li", {}, el("code", {}, each.metric ? `${each.reason}(${each.metric})` : each.reason), ` ${each.detail}`));
  if (reasons.length) problem("Refused, and nothing was changed:", el("ul", {}, reasons));
  else problem(`Not done: ${error.message}`);
}

function problem(text, ...more) {
  at("ask-problem").replaceChildren(el("p", {}, text), ...more);
}

for (const dialog of [unlock, ask]) {
  dialog.querySelector(".cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => under?.isConnected && under.focus());
}
unlock.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("token").value.trim());
  const next = pending;
  unlock.close();
  allow(mayAct);
  if (next) {
    pending = next;
    question();
  }
});
unlock.addEventListener("close", () => {
  at("token").value = "";
});
ask.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  obey();
});
lock.addEventListener("click", () => {
  if (token()) {
    sessionStorage.removeItem(KEY);
    allow(mayAct);
  } else {
    pending = null;
    under = lock;
    unlock.showModal();
  }
});
