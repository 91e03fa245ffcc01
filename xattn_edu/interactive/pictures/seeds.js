// Experiments of n seeds: each compares two models seed by seed, and its interval holds 0 or leaves it out.

const CHART = { width: 320, height: 230, left: 40, right: 10, top: 10, bottom: 38 };
const SHOWN = 24; // the last experiments, as intervals
const MOST = 120; // seeds

/** Numbers between 0 and 1 that are the same for the same seed (mulberry32, by Tommy Ettinger, public domain). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A normal number of mean 0 and deviation 1, from two uniform ones (Box and Muller). */
const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** The normal distribution's probability below x (Abramowitz and Stegun, 26.2.10 near 0 and 26.2.14 in the tails). */
function below(x) {
  const size = Math.abs(x);
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (size > 4) {
    let fraction = size;
    for (let k = 60; k >= 1; k--) fraction = size + k / fraction;
    return x > 0 ? 1 - density / fraction : density / fraction;
  }
  let [term, sum] = [x, x];
  for (let k = 1; k < 80; k++) {
    term *= (x * x) / (2 * k + 1);
    sum += term;
  }
  return 0.5 + density * sum;
}

/** Student's t of a 95 % interval, as `xattn_edu.measure.intervals.student_t`. */
function studentT(degrees, level = 0.95) {
  const inside = (angle) => {
    const odd = degrees % 2;
    let [term, total] = [odd ? Math.cos(angle) : 1, 0];
    for (let k = odd; k < degrees; k += 2) {
      total += term;
      term *= (Math.cos(angle) ** 2 * (k + 1)) / (k + 2);
    }
    return odd ? (2 / Math.PI) * (angle + Math.sin(angle) * total) : Math.sin(angle) * total;
  };
  let [low, high] = [0, Math.PI / 2];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (inside(middle) < level) low = middle;
    else high = middle;
  }
  return Math.tan(low) * Math.sqrt(degrees);
}

/** ln Gamma of a positive multiple of one half, by the recurrence. */
function logGamma(x) {
  let value = x % 1 ? Math.log(Math.PI) / 2 : 0;
  for (let k = x % 1 ? 0.5 : 1; k < x; k++) value += Math.log(k);
  return value;
}

/** How often the interval leaves 0 out, as `xattn_edu.measure.intervals.power_of`. */
function powerOf(seeds, lead, deviation) {
  const [degrees, steps] = [seeds - 1, 400];
  const [t, shift] = [studentT(degrees), (lead * Math.sqrt(seeds)) / deviation];
  const spread = 8 / Math.sqrt(2 * degrees);
  const [low, high] = [Math.max(0, 1 - spread), 1 + spread];
  const constant = Math.log(2) + (degrees / 2) * Math.log(degrees / 2) - logGamma(degrees / 2);
  let total = 0;
  for (let step = 0; step < steps; step++) {
    const w = low + ((step + 0.5) * (high - low)) / steps;
    const density = Math.exp(constant + (degrees - 1) * Math.log(w) - (degrees * w * w) / 2);
    total += density * (below(shift - t * w) + below(-shift - t * w));
  }
  return (total * (high - low)) / steps;
}

/** The same if the spread were known, and the interval's factor 1.96. */
function normalPower(seeds, lead, deviation) {
  const shift = (lead * Math.sqrt(seeds)) / deviation;
  return below(shift - 1.959964) + below(-shift - 1.959964);
}

/** One experiment: its leads, their mean, and half the width of the interval. */
function experiment(random, seeds, lead, deviation) {
  const leads = Array.from({ length: seeds }, () => lead + deviation * normal(random));
  const mean = leads.reduce((sum, value) => sum + value, 0) / seeds;
  const variance = leads.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (seeds - 1);
  const half = (studentT(seeds - 1) * Math.sqrt(variance)) / Math.sqrt(seeds);
  return { leads, mean, half, shown: Math.abs(mean) > half };
}

function intervalsOf(experiments, { lead, deviation }, colours) {
  const { width, height, left, right, bottom, top } = CHART;
  const reach = Math.max(10, 2.5 * deviation + lead);
  const inside = (value) => Math.max(-reach, Math.min(reach, value));
  const x = (value) => left + ((inside(value) + reach) / (2 * reach)) * (width - left - right);
  const low = height - bottom;
  const tick = reach > 30 ? 20 : reach > 12 ? 10 : 5;
  const ticks = [-2, -1, 0, 1, 2].map((k) => k * tick).filter((value) => Math.abs(value) <= reach);
  const step = (low - top) / SHOWN;
  return [
    h("line", { x1: x(0), x2: x(0), y1: top, y2: low, stroke: "currentColor" }),
    h("line", {
      x1: x(lead), x2: x(lead), y1: top, y2: low, stroke: colours.sky, "stroke-dasharray": "4 3", "stroke-width": 2,
    }),
    ...ticks.map((value) => h("text", { x: x(value), y: low + 16, "text-anchor": "middle" }, value)),
    h("text", { x: (left + width - right) / 2, y: low + 33, "text-anchor": "middle" }, "lead in points, 95 % interval"),
    ...experiments.slice(-SHOWN).flatMap(({ mean, half, shown }, i) => {
      const y = top + step * (i + 0.5);
      const stroke = shown ? colours.orange : colours.grey;
      return [
        h("line", { x1: x(mean - half), x2: x(mean + half), y1: y, y2: y, stroke, "stroke-width": 3 }),
        h("circle", { cx: x(mean), cy: y, r: 4, fill: stroke }),
      ];
    }),
  ];
}

function powerChart({ seeds, lead, deviation }, share, colours) {
  const { width, height, left, right, bottom, top } = CHART;
  const place = (n, power) => [
    left + ((n - 2) / (MOST - 2)) * (width - left - right), height - bottom - power * (height - top - bottom),
  ];
  const line = (power, attributes) => {
    const points = [];
    for (let n = 2; n <= MOST; n += n < 20 ? 1 : 4) points.push(place(n, power(n, lead, deviation)).join(" "));
    return h("path", { d: `M${points.join("L")}`, fill: "none", "stroke-width": 3, ...attributes });
  };
  const rules = [0, 0.5, 0.8, 1].flatMap((power) => {
    const [, y] = place(2, power);
    return [
      h("line", { x1: left, x2: width - right, y1: y, y2: y, class: "rule" }),
      h("text", { x: left - 5, y: y + 4, "text-anchor": "end" }, `${100 * power} %`),
    ];
  });
  const low = place(2, 0)[1];
  const [cx, cy] = place(seeds, share ?? powerOf(seeds, lead, deviation));
  return [
    ...rules,
    ...[2, 20, 40, 60, 80, 100, 120].map((n) =>
      h("text", { x: place(n, 0)[0], y: low + 16, "text-anchor": "middle" }, n)),
    h("text", { x: (left + width - right) / 2, y: low + 33, "text-anchor": "middle" }, "seeds"),
    line(normalPower, { stroke: colours.grey, "stroke-dasharray": "5 4" }),
    line(powerOf, { stroke: colours.sky }),
    h("circle", {
      cx, cy, r: 7, fill: share === null ? "none" : colours.orange, stroke: "currentColor", "stroke-width": 1.5,
    }),
  ];
}

function draw(root, data) {
  const { colours, spreads } = data;
  const state = { seeds: spreads[0].leads.length, lead: data.lead, spread: 0, drawn: 0 };
  let [experiments, random] = [[], generator(0)];
  const restart = (to) => {
    Object.assign(state, to, { drawn: 0 });
    [experiments, random] = [[], generator(0)];
    show();
  };
  const more = (count) => {
    const { seeds, lead, spread } = state;
    for (let i = 0; i < count; i++) experiments.push(experiment(random, seeds, lead, spreads[spread].deviation));
    show();
  };
  const points = (value) => `${value.toFixed(1)} points`;
  const spread = choice(
    "spread of", spreads.map(({ name, deviation }, i) => [String(i), `${name}: ${deviation.toFixed(1)} points`]), "0",
    (chosen) => restart({ spread: +chosen }),
  );
  const [intervals, power] = [0, 1].map(() =>
    h("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, "aria-hidden": "true" }));
  const left = panel("", intervals);
  const line = saying();
  const button = (words, clicked) => h("button", { type: "button", onclick: clicked }, words);
  root.append(
    h("div", { class: "row" }, spread,
      slider("seeds", { min: 2, max: MOST, step: 1, value: state.seeds }, (seeds) => restart({ seeds })),
      slider(
        "true lead", { min: 0, max: 10, step: 0.5, value: state.lead, show: points }, (lead) => restart({ lead }),
      )),
    h("div", { class: "row" }, button("draw 1 experiment", () => more(1)), button("draw 100", () => more(100)),
      button("start again", () => restart({}))),
    panels(left, panel("How often a lead is seen: t (blue), normal (dashed)", power)),
    line,
  );

  function show() {
    const { deviation } = spreads[state.spread];
    const setting = { ...state, deviation };
    const shown = experiments.filter((each) => each.shown).length;
    const wrong = experiments.filter((each) => each.shown && each.mean < 0).length;
    const share = experiments.length ? shown / experiments.length : null;
    const exact = powerOf(state.seeds, state.lead, deviation);
    const approximate = normalPower(state.seeds, state.lead, deviation);
    intervals.replaceChildren(...intervalsOf(experiments, setting, colours));
    power.replaceChildren(...powerChart(setting, share, colours));
    left.firstChild.textContent = experiments.length
      ? `${shown} of ${experiments.length} intervals leave 0 out (orange)`
      : "Draw an experiment: its interval appears here";
    const drawn = experiments.length
      ? `${shown} of ${experiments.length} experiments show a lead (${percent(share)})` +
        `${state.lead ? `, ${wrong} of them for the wrong model` : ""}. `
      : "";
    line.textContent = `${drawn}${state.seeds} seeds, spread ${deviation.toFixed(1)}, true lead ` +
      `${points(state.lead)}: a lead is expected in ${percent(exact)} of the experiments; if the spread were known, ` +
      `in ${percent(approximate)} (normal approximation).`;
    expose(root, {
      seeds: state.seeds, lead: state.lead, deviation, count: experiments.length, shown, wrong, exact, approximate,
      last: experiments.at(-1) ?? null, t: studentT(state.seeds - 1),
    });
  }
  show();
}

export default {
  render({ model, el }) {
    return mount({ model, el }, draw);
  },
};
