// A query turned by hand among five keys; below it, what random queries of width d make of sixteen random keys.

const PLANE = { size: 320, unit: 36, longest: 4 };
const CURVE = { width: 320, height: 186, left: 24, right: 8, top: 8, bottom: 36, highest: 6 };

const turned = (degrees, length) => {
  const angle = (degrees * Math.PI) / 180;
  return [length * Math.cos(angle), length * Math.sin(angle)];
};

const oneHot = (scores) => {
  const winner = scores.indexOf(Math.max(...scores));
  return scores.map((_, i) => (i === winner ? 1 : 0));
};

/** The look-up: scores, shares (soft: softmax; hard: all to the largest score), and the mean of the values. */
function lookUp({ keys, values }, degrees, length, kind) {
  const query = turned(degrees, length);
  const scores = keys.map((key) => dot(query, key));
  const shares = kind === "soft" ? softmax(scores) : oneHot(scores);
  return { query, scores, shares, output: dot(shares, values), sharpness: Math.max(...shares) };
}

/** The shares of each random query when its scores are divided by `root`, and which queries get no gradient. */
function atRandom(scores, sizes, root, limit) {
  const shares = scores.map((row) => softmax(row.map((score) => score / root)));
  const largest = shares.reduce((sum, row) => sum + Math.max(...row), 0) / shares.length;
  const dead = sizes.map((size) => size < limit);
  return { shares, dead, largest, count: dead.filter(Boolean).length };
}

function planeOf({ keys, colours }, { query, shares }) {
  const { size, unit } = PLANE;
  const at = ([x, y]) => [size / 2 + unit * x, size / 2 - unit * y];
  const ray = (to, stroke, width) => {
    const [x2, y2] = at(to);
    return h("line", { x1: size / 2, y1: size / 2, x2, y2, stroke, "stroke-width": width });
  };
  const discs = keys.flatMap((key, i) => {
    const [cx, cy] = at(key);
    const [x, y] = at(key.map((channel) => 1.5 * channel));
    return [
      h("circle", { cx, cy, r: 4 + 24 * Math.sqrt(shares[i]), fill: colours.key, "fill-opacity": 0.85 }),
      h("text", { x, y: y + 5, "text-anchor": "middle" }, percent(shares[i])),
    ];
  });
  const [cx, cy] = at(query);
  return [
    ...keys.map((key) => ray(key, colours.key, 2)),
    ...discs,
    ray(query, colours.query, 5),
    h("circle", { cx, cy, r: 12, fill: colours.query, stroke: "white", "stroke-width": 2 }),
    h("text", { x: cx, y: cy + 4, "text-anchor": "middle", style: "fill: white; font-weight: 600" }, "q"),
  ];
}

/** From numbers to places in a chart: x from 0 to `widest`, y from 0 to `highest`. */
function placing(widest) {
  const { width, height, left, right, top, bottom, highest } = CURVE;
  return (x, y) => [
    left + (x / widest) * (width - left - right),
    height - bottom - (y / highest) * (height - top - bottom),
  ];
}

function axesOf(place, widest, ticks, name) {
  const rules = [0, 2, 4, 6].flatMap((y) => {
    const [x1, at] = place(0, y);
    return [
      h("line", { x1, x2: place(widest, y)[0], y1: at, y2: at, class: "rule" }),
      h("text", { x: x1 - 6, y: at + 4, "text-anchor": "end" }, y),
    ];
  });
  const low = place(0, 0)[1];
  const centred = (x, y, words) => h("text", { x: place(x, 0)[0], y, "text-anchor": "middle" }, words);
  const marks = ticks.map(([x, words]) => centred(x, low + 15, words));
  return [...rules, ...marks, centred(widest / 2, low + 31, name)];
}

function barsOf({ values, colours }, { shares, output }) {
  const place = placing(1);
  let from = 0;
  const bars = shares.map((share, i) => {
    const [x, y] = place(from, values[i]);
    from += share;
    const [width, height] = [place(from, 0)[0] - x, place(0, 0)[1] - y];
    return h("rect", { x, y, width, height, fill: colours.value, "fill-opacity": 0.75, stroke: "white" });
  });
  const [[x1, y], [x2]] = [place(0, output), place(1, output)];
  return [
    ...axesOf(place, 1, [[0, "0"], [0.5, "½"], [1, "1"]], "share"),
    ...bars,
    h("line", { x1, x2, y1: y, y2: y, stroke: colours.output, "stroke-width": 5 }),
  ];
}

function curveOf(data, { degrees, length, kind }, output) {
  const place = placing(360);
  const line = (which, stroke) => {
    const outputs = Array.from({ length: 361 }, (_, turn) => lookUp(data, turn, length, which).output);
    const points = outputs.map((output, turn) => place(turn, output).join(" "));
    return h("path", { d: `M${points.join("L")}`, fill: "none", stroke, "stroke-width": kind === which ? 4 : 1.5 });
  };
  const [cx, cy] = place(degrees, output);
  return [
    ...axesOf(place, 360, [0, 90, 180, 270, 360].map((turn) => [turn, `${turn}°`]), "direction of the query"),
    line("hard", data.colours.grey),
    line("soft", data.colours.output),
    h("circle", { cx, cy, r: 8, fill: data.colours.query, stroke: "white", "stroke-width": 2 }),
  ];
}

/** A row for each query: its shares, the largest first. The rows of dead queries are grey. */
function sharesOf({ shares, dead }, colours) {
  const cells = shares.flatMap((row, y) => {
    const fill = dead[y] ? colours.grey : colours.sky;
    const sorted = [...row].sort((one, other) => other - one);
    return sorted.map((share, x) =>
      h("rect", { x: 20 * x, y: 6 * y, width: 19, height: 5, fill, "fill-opacity": 0.06 + 0.94 * share }),
    );
  });
  return h("svg", { viewBox: `0 0 320 ${6 * shares.length}`, "aria-hidden": "true" }, ...cells);
}

/** Of each width, the scores as a row for each random query, and the sizes of its gradients. */
const decoded = ({ width, scores, sizes }) => {
  const [flat, each] = [numbers(scores), scores.shape[1]];
  const rows = Array.from({ length: scores.shape[0] }, (_, i) => Array.from(flat.slice(i * each, (i + 1) * each)));
  const [plain, scaled] = [sizes.plain, sizes.scaled].map((size) => Array.from(numbers(size)));
  return { width, scores: rows, sizes: { plain, scaled } };
};

function draw(root, encoded) {
  const data = { ...encoded, random: encoded.random.map(decoded) };
  const state = { degrees: data.degrees, length: data.length, kind: "soft", index: data.random.length - 1 };
  const change = (to) => (Object.assign(state, to), show());
  const plane = h("svg", {
    viewBox: `0 0 ${PLANE.size} ${PLANE.size}`, class: "drag", tabindex: 0, role: "slider", "aria-valuemin": 0,
    "aria-valuemax": 360, "aria-label": "query: left and right turn it, up and down change its length",
  });
  const [bars, curve] = [0, 1].map(() =>
    h("svg", { viewBox: `0 0 ${CURVE.width} ${CURVE.height}`, "aria-hidden": "true" }),
  );
  const line = saying();
  const deadLine = h("p", { class: "says" }); // read out as the slider's value
  const direction = slider(
    "direction", { min: 0, max: 360, step: 1, value: state.degrees }, (degrees) => change({ degrees }),
  );
  const length = slider(
    "length", { min: 0, max: PLANE.longest, step: 0.1, value: state.length }, (length) => change({ length }),
  );
  const widths = data.random.map(({ width }) => width);
  const width = slider(
    "width d", { min: 0, max: widths.length - 1, step: 1, value: state.index, show: (i) => widths[i] },
    (index) => change({ index }),
  );
  const [plain, scaled] = [panel(""), panel("")];
  const results = panel("", bars, h("figcaption", {}, "All directions: soft (pink), hard (grey)"), curve);
  movable(plane, state, change);
  root.append(
    h("div", { class: "row" }, direction, length, oneOf("look-up", [["soft", "soft"], ["hard", "hard"]], "soft",
      (kind) => change({ kind }))),
    panels(panel("Drag q: the larger a key's disc, the larger its share", plane), results),
    line,
    h("h4", {}, "Random queries, a row each: its shares of 16 random keys, the largest first"),
    h("div", { class: "row" }, width),
    panels(plain, scaled),
    deadLine,
  );

  function show() {
    const found = lookUp(data, state.degrees, state.length, state.kind);
    plane.replaceChildren(...planeOf(data, found));
    bars.replaceChildren(...barsOf(data, found));
    curve.replaceChildren(...curveOf(data, state, found.output));
    results.firstChild.textContent = `Values, each as wide as its share. Output: ${found.output.toFixed(2)}`;
    const shares = found.shares.map(percent).join(", ");
    const where = `${state.degrees}°, length ${state.length.toFixed(1)}`;
    const words = `${where}: shares ${shares}; output ${found.output.toFixed(2)}`;
    plane.setAttribute("aria-valuenow", state.degrees);
    plane.setAttribute("aria-valuetext", words);
    const kind = state.kind === "soft" ? "Soft" : "Hard";
    line.textContent = `${kind} look-up, query at ${words}. The largest share is ${percent(found.sharpness)}.`;
    settle(direction, state.degrees, `${state.degrees}°`);
    settle(length, state.length, state.length.toFixed(1));

    const { width: d, scores, sizes } = data.random[state.index];
    const both = [atRandom(scores, sizes.plain, 1, data.dead), atRandom(scores, sizes.scaled, Math.sqrt(d), data.dead)];
    [plain, scaled].forEach((figure, i) => {
      const { count, dead } = both[i];
      const heading = h("figcaption", {}, `${["q·k", "q·k / √d"][i]}: ${count} of ${dead.length} queries dead (grey)`);
      figure.replaceChildren(heading, sharesOf(both[i], data.colours));
    });
    const [without, divided] = both;
    deadLine.textContent = `d = ${d}: the largest of 16 shares is ${percent(without.largest)} on average without the ` +
      `division, ${percent(divided.largest)} with it. Of ${scores.length} queries ${without.count} and ` +
      `${divided.count} are dead: they get practically no gradient.`;
    width.querySelector("input").setAttribute("aria-valuetext", deadLine.textContent);
    expose(root, {
      shares: found.shares, output: found.output, degrees: state.degrees, length: state.length, width: d,
      largest: both.map(({ largest }) => largest), dead: both.map(({ count }) => count),
    });
  }
  show();
}

/** The query follows the pointer and the arrow keys. */
function movable(plane, state, change) {
  const follow = (event) => {
    const box = plane.getBoundingClientRect();
    const scale = PLANE.size / box.width / PLANE.unit;
    const x = (event.clientX - box.left - box.width / 2) * scale;
    const y = (box.top + box.height / 2 - event.clientY) * scale;
    const degrees = (Math.round((Math.atan2(y, x) * 180) / Math.PI) + 360) % 360;
    change({ degrees, length: Math.min(PLANE.longest, Math.round(10 * Math.hypot(x, y)) / 10) });
  };
  plane.addEventListener("pointerdown", (event) => (plane.setPointerCapture(event.pointerId), follow(event)));
  plane.addEventListener("pointermove", (event) => event.buttons && follow(event));
  plane.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [5, 0], ArrowRight: [-5, 0], ArrowUp: [0, 0.2], ArrowDown: [0, -0.2] }[event.key];
    if (!step) return;
    event.preventDefault();
    const length = Math.round(10 * (state.length + step[1])) / 10;
    change({ degrees: (state.degrees + step[0] + 360) % 360, length: Math.min(PLANE.longest, Math.max(0, length)) });
  });
}

export default {
  render({ model, el }) {
    return mount({ model, el }, draw);
  },
};
