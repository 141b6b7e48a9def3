// Elements, numbers in words, and charts.  Text goes in as text: nothing is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `el("p", {class: "x"}, "text", child, …)`; null children and attributes are left out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}

// --- numbers ---------------------------------------------------------------------------------------

const NOTHING = "–";
const digits = (most, least = 0) =>
  new Intl.NumberFormat("en", { maximumFractionDigits: most, minimumFractionDigits: least });
const [whole, one, two, exact] = [digits(0), digits(1, 1), digits(2, 2), digits(2)];
const or = (format) => (value) => (value === null || value === undefined ? NOTHING : format(value));

export const count = or((value) => whole.format(value));
export const percent = or((value) => `${exact.format(value)} %`);
export const share = or((value) => `${two.format(value * 100)} %`);
export const seconds = or((value) => (value < 1 ? `${whole.format(value * 1000)} ms` : `${two.format(value)} s`));
export const dollars = or((value) => `$${(value < 10 ? two : whole).format(value)}`);
export const thousand = or((value) => `$${two.format(value * 1000)}`);
export const rate = or((value) => `${one.format(value)}/s`);
const score = or((value) => two.format(value));

/** How much worse, on a gate's own scale; a ceiling's own rate. */
function signed(gate, value, format = two) {
  if (value === null) return "?";
  const size = gate.scale === "score" ? Math.abs(value) : Math.abs(value) * 100;
  const sign = gate.ceiling || !value ? "" : value > 0 ? "+" : "−";
  return sign + (size < 10 || format === exact ? format : one).format(size);
}

const unit = (gate) => (gate.scale === "score" ? "" : gate.ceiling || gate.scale === "relative" ? " %" : " pp");

/** `−0.98 pp (−1.83 … −0.23)`, and `at most +1 pp`. */
export function harm(gate) {
  const bounds = `(${signed(gate, gate.lower)} … ${signed(gate, gate.upper)})`;
  return [`${signed(gate, gate.estimate)}${unit(gate)} ${bounds}`, `at most ${signed(gate, gate.margin, exact)}${unit(gate)}`];
}

/** A gate as it is drawn: a ceiling's own rate, not what it is above the ceiling. */
export function drawn(gate) {
  if (gate.baseline !== null || gate.finetuned === null || gate.estimate === null) return gate;
  const margin = gate.finetuned - gate.estimate;
  const shifted = (value) => (value === null ? null : Math.max(0, value + margin));
  return { ...gate, ceiling: true, margin, estimate: gate.finetuned, lower: shifted(gate.lower), upper: shifted(gate.upper) };
}

/** A gate's metric as people read it. */
export function figure(gate, value) {
  if (gate.gate === "cost") return thousand(value);
  if (gate.gate === "latency_mean") return seconds(value);
  return gate.scale === "score" ? score(value) : share(value);
}

export function span(left) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
  for (const [unit, size] of units) {
    if (left >= 1.5 * size) return `${whole.format(Math.ceil(left / size))} ${unit}s`;
  }
  return left >= 60 ? "a minute" : `${whole.format(Math.max(0, left))} seconds`;
}

const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });

/** A moment: Unix seconds, or RFC 3339. */
export function moment(time) {
  const at = new Date(typeof time === "number" ? time * 1000 : time);
  return el("time", { datetime: at.toISOString() }, `${date.format(at)} ${clock.format(at)} UTC`);
}

/** The date alone. */
export function day(time) {
  return el("time", { datetime: time }, date.format(new Date(time)));
}

/** Text in which `backticks` mark code. */
export function coded(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

export const words = (code) => code.toLowerCase().replaceAll("_", " ");

// --- charts ----------------------------------------------------------------------------------------

/** What is filled of a whole, 0 … 1; `label` says it in words. */
export function bar(part, label, kind = "") {
  const width = Math.max(0, Math.min(1, part)) * 100;
  return shape(
    "svg",
    { class: `bar ${kind}`, viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": label },
    shape("rect", { class: "track", width: 100, height: 8 }),
    shape("rect", { class: "fill", width, height: 8 }),
  );
}

/** A gate's interval against what is allowed, zero in the middle; what does not fit is cut off. */
export function interval(gate, label) {
  const half = Math.max(gate.margin * 2, Math.abs(gate.estimate) * 1.3, 1e-9);
  const x = (value) => Math.max(1, Math.min(199, 100 + (value / half) * 100));
  const limit = x(gate.margin);
  return shape(
    "svg",
    { class: `gate ${gate.outcome}`, viewBox: "0 0 200 18", role: "img", "aria-label": label },
    shape("rect", { class: "beyond", x: limit, y: 0, width: 200 - limit, height: 18 }),
    shape("line", { class: "zero", x1: 100, x2: 100, y1: 0, y2: 18 }),
    shape("line", { class: "limit", x1: limit, x2: limit, y1: 0, y2: 18 }),
    shape("line", { class: "interval", x1: x(gate.lower ?? -1e9), x2: x(gate.upper ?? 1e9), y1: 9, y2: 9 }),
    shape("circle", { class: "estimate", cx: x(gate.estimate), cy: 9, r: 4.5 }),
  );
}

/** Two series over time, `[{finetuned, baseline}, …]`, on one scale from zero to `top`. */
export function lines(points, slots, top, label) {
  const path = (arm) =>
    points
      .map((point, index) => {
        const x = ((slots - points.length + index) / (slots - 1)) * 300;
        return `${index ? "L" : "M"}${x.toFixed(1)} ${(70 - (point[arm] / top) * 66).toFixed(1)}`;
      })
      .join("");
  return shape(
    "svg",
    { class: "lines", viewBox: "0 0 300 72", preserveAspectRatio: "none", role: "img", "aria-label": label },
    shape("line", { class: "floor", x1: 0, x2: 300, y1: 70.5, y2: 70.5 }),
    shape("path", { class: "baseline", d: path("baseline") }),
    shape("path", { class: "finetuned", d: path("finetuned") }),
  );
}
