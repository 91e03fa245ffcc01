// What a ViT costs: tokens, parameters, and multiply-accumulates (MACs) part by part.

const CHART = { width: 320, height: 240, left: 44, right: 14, top: 12, bottom: 40 };
const RATIO = 4; // hidden width of the MLP over the width
const CLASSES = 1000;

/** As `xattn_edu.measure.costs.vit_macs`, part by part, and the parameters of `xattn_edu.ViT`. */
function costsOf({ image, patch, width: d, depth }) {
  const patches = (image / patch) ** 2;
  const tokens = patches + 1; // and a class token
  const macs = {
    embedding: 3 * patch ** 2 * d * patches,
    projections: 4 * tokens * d ** 2 * depth,
    square: 2 * tokens ** 2 * d * depth,
    mlp: 2 * RATIO * tokens * d ** 2 * depth,
    head: CLASSES * d,
  };
  const attention = 4 * (d ** 2 + d);
  const mlp = 2 * RATIO * d ** 2 + RATIO * d + d;
  const embedding = 3 * patch ** 2 * d + d + (1 + tokens) * d; // patches, class token, positions
  const parameters = depth * (attention + mlp + 4 * d) + embedding + 2 * d + CLASSES * (d + 1);
  const total = Object.values(macs).reduce((one, other) => one + other, 0);
  return { tokens, macs, total, parameters };
}

/** The side of the image, in pixels, at which the square is as large as projections and MLP: T = (2 + r) d tokens. */
const takesOver = ({ patch, width }) => patch * Math.sqrt((2 + RATIO) * width - 1);

function short(count) {
  const units = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  const [unit, name] = units.find(([size]) => count >= size) ?? units.at(-1);
  return `${+(count / unit).toPrecision(3)} ${name}`.trim();
}

function gridOf({ image, patch }, colours) {
  const side = image / patch;
  const step = 160 / side;
  let lines = "";
  for (let i = 1; i < side; i++) lines += `M${i * step} 0V160M0 ${i * step}H160`;
  return [
    h("rect", { width: 160, height: 160, fill: colours.sky, "fill-opacity": 0.3 }),
    h("path", { d: lines, stroke: "currentColor", "stroke-width": side > 32 ? 0.15 : 0.5 }),
    h("rect", { width: step, height: step, fill: colours.query }),
  ];
}

function partsOf({ macs, total }, colours) {
  const parts = [
    ["square", "attention's square", colours.orange],
    ["projections", "q, k, v and output", colours.sky],
    ["mlp", "MLP", colours.grey],
    ["embedding", "patch embedding", colours.value],
    ["head", "classifier", colours.output],
  ];
  return parts.flatMap(([part, name, fill], i) => {
    const share = macs[part] / total;
    return [
      h("text", { x: 0, y: 38 * i + 13, style: "font-size: 14px" }, `${name}: ${short(macs[part])}, ${percent(share)}`),
      h("rect", { x: 0, y: 38 * i + 18, width: Math.max(1, 320 * share), height: 11, fill }),
    ];
  });
}

/** Places in a chart with two logarithmic axes. */
function placing([x0, x1], [y0, y1]) {
  const { width, height, left, right, top, bottom } = CHART;
  const part = (value, from, to) => Math.log(value / from) / Math.log(to / from);
  return (x, y) => [
    left + part(x, x0, x1) * (width - left - right),
    height - bottom - part(y, y0, y1) * (height - top - bottom),
  ];
}

function axesOf(place, xs, ys, name, mark = short) {
  const [low, right] = [place(xs[0], ys[0])[1], CHART.width - CHART.right];
  const rules = ys.flatMap((y) => {
    const at = place(xs[0], y)[1];
    return [
      h("line", { x1: CHART.left, x2: right, y1: at, y2: at, class: "rule" }),
      h("text", { x: CHART.left - 5, y: at + 4, "text-anchor": "end" }, short(y)),
    ];
  });
  const marks = xs.map((x) => h("text", { x: place(x, ys[0])[0], y: low + 16, "text-anchor": "middle" }, mark(x)));
  return [...rules, ...marks, h("text", { x: (CHART.left + right) / 2, y: low + 33, "text-anchor": "middle" }, name)];
}

const powers = (from, to, factor) => {
  const found = [];
  for (let value = from; value <= to * 1.001; value *= factor) found.push(value);
  return found;
};

/** Only the image grows: the MACs of the linear parts of all blocks, and those of the square. */
function growthOf(state, colours) {
  const sides = powers(32, 4096, 2 ** 0.25);
  const pair = (image) => {
    const { macs } = costsOf({ ...state, image });
    return [macs.projections + macs.mlp, macs.square];
  };
  const low = 10 ** Math.floor(Math.log10(Math.min(...pair(32))));
  const high = 10 ** Math.ceil(Math.log10(Math.max(...pair(4096))));
  const place = placing([32, 4096], [low, high]);
  const line = (which) =>
    h("path", {
      d: `M${sides.map((side) => place(side, pair(side)[which]).join(" ")).join("L")}`,
      fill: "none", stroke: [colours.sky, colours.orange][which], "stroke-width": 3,
    });
  const x = place(takesOver(state), low)[0];
  const points = pair(state.image).map((macs, which) => {
    const [cx, cy] = place(state.image, macs);
    return h("circle", { cx, cy, r: 6, fill: [colours.sky, colours.orange][which], stroke: "currentColor" });
  });
  return [
    ...axesOf(place, [32, 128, 512, 2048], powers(low, high, 100), "side of the image (pixels)", String),
    h("line", {
      x1: x, x2: x, y1: CHART.top, y2: CHART.height - CHART.bottom, class: "rule", "stroke-dasharray": "4 3",
    }),
    line(0), line(1), ...points,
  ];
}

/** Published models as points, counted by the library, and the model that is set. */
function modelsOf({ models, named, colours }, { parameters, total }) {
  const [xs, ys] = [[1e6, 1e7, 1e8, 1e9], [1e8, 1e9, 1e10, 1e11, 1e12]];
  const place = placing([1e6, 1e9], [1e8, 1e12]);
  const kinds = { ViT: colours.grey, DeiT: colours.value, CrossViT: colours.output };
  const points = models.flatMap(({ name, kind, parameters: x, macs: y }) => {
    const [cx, cy] = place(x, y);
    const words = named.includes(name) ? [h("text", { x: cx + 8, y: cy + 14, style: "font-size: 11px" }, name)] : [];
    return [h("circle", { cx, cy, r: 5, fill: kinds[kind], "fill-opacity": 0.8 }, h("title", {}, name)), ...words];
  });
  const legend = Object.entries(kinds).flatMap(([kind, fill], i) => [
    h("circle", { cx: CHART.left + 14, cy: 22 + 16 * i, r: 5, fill }),
    h("text", { x: CHART.left + 24, y: 26 + 16 * i }, kind),
  ]);
  const inside = (value, low, high) => Math.min(high, Math.max(low, value));
  const [cx, cy] = place(inside(parameters, 1e6, 1e9), inside(total, 1e8, 1e12));
  return [
    ...axesOf(place, xs, ys, "parameters"), ...legend, ...points,
    h("circle", { cx, cy, r: 9, fill: "none", stroke: colours.query, "stroke-width": 4 }),
  ];
}

function draw(root, data) {
  const { colours } = data;
  const state = { ...data.start };
  const change = (to) => (Object.assign(state, to), show());
  const pixels = (value) => `${value} px`;
  const sliders = {
    image: slider(
      "image", { min: 32, max: 2048, step: 32, value: state.image, show: pixels }, (image) => change({ image }),
    ),
    width: slider("width", { min: 64, max: 1280, step: 64, value: state.width }, (width) => change({ width })),
    depth: slider("depth", { min: 1, max: 48, step: 1, value: state.depth }, (depth) => change({ depth })),
  };
  const patches = oneOf("patch", [4, 8, 16, 32].map((p) => [p, pixels(p)]), state.patch, (patch) => change({ patch }));
  const settings = Object.fromEntries(data.models.flatMap((m) => (m.settings ? [[m.name, m.settings]] : [])));
  const names = Object.keys(settings).map((name) => [name, name]);
  const known = choice("a published model", [["", "choose"], ...names], "", (name) => change(settings[name] ?? {}));
  const [grid, parts] = [h("svg", { viewBox: "0 0 160 160" }), h("svg", { viewBox: "0 0 320 186" })];
  const [growth, models] = [0, 1].map(() => h("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}` }));
  for (const drawing of [grid, parts, growth, models]) drawing.setAttribute("aria-hidden", "true");
  const square = h("div", { style: "max-width: 11em" }, grid);
  const [tokens, work, sizes] = [square, parts, growth].map((drawing) => panel("", drawing));
  const line = saying();
  root.append(
    h("div", { class: "row" }, known, patches),
    h("div", { class: "row" }, ...Object.values(sliders)),
    panels(tokens, work, sizes, panel("MACs by parameters; the ring is yours", models)),
    line,
  );

  function show() {
    const costs = costsOf(state);
    const side = Math.round(takesOver(state));
    grid.replaceChildren(...gridOf(state, colours));
    parts.replaceChildren(...partsOf(costs, colours));
    growth.replaceChildren(...growthOf(state, colours));
    models.replaceChildren(...modelsOf(data, costs));
    tokens.firstChild.textContent = `${costs.tokens.toLocaleString("en")} tokens: one a patch and a class token`;
    work.firstChild.textContent = `${short(costs.total)} MACs an image, ${short(costs.parameters)} parameters`;
    sizes.firstChild.textContent = `The square (orange) takes over at ${side} px`;
    settle(sliders.image, state.image, pixels(state.image));
    settle(sliders.width, state.width, String(state.width));
    settle(sliders.depth, state.depth, String(state.depth));
    patches.settle(state.patch);
    line.textContent = `Images of ${state.image} pixels in patches of ${state.patch}, width ${state.width}, ` +
      `${state.depth} blocks: ${costs.tokens} tokens, ${short(costs.parameters)} parameters, ` +
      `${short(costs.total)} MACs. Attention's square is ${percent(costs.macs.square / costs.total)} of them. It is ` +
      `larger than projections and MLP beyond ${(2 + RATIO) * state.width} tokens, images of ${side} pixels.`;
    expose(root, { ...state, ...costs, takesOver: takesOver(state) });
  }
  show();
}

export default {
  render({ model, el }) {
    return mount({ model, el }, draw);
  },
};
