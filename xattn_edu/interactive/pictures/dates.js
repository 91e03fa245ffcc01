// A decoder writes a date step by step: where it looks, and what it writes with the keys or the values of another date.

/** The weights (head, source token) of one step, from its query and the keys. */
function look(query, keys, heads) {
  const [count, width] = keys.shape;
  const dim = width / heads;
  return Array.from({ length: heads }, (_, head) =>
    softmax(
      Array.from({ length: count }, (_, token) => {
        let score = 0;
        for (let c = head * dim; c < (head + 1) * dim; c++) score += query[c] * keys[token * width + c];
        return score / Math.sqrt(dim);
      }),
    ),
  );
}

/** What the heads gather: the values of the source tokens, mixed in these proportions. */
function gather(weights, values) {
  const [, width] = values.shape;
  const dim = width / weights.length;
  return Array.from({ length: width }, (_, c) =>
    weights[Math.floor(c / dim)].reduce((sum, weight, token) => sum + weight * values[token * width + c], 0),
  );
}

const GAP = 46;
const HIGH = 130;

export default {
  render({ model, el }) {
    return mount({ model, el }, (root, data) => {
      const { sentences, runs, heads } = data;
      const layers = sentences[0].keys.length;
      const state = { keys: 0, values: 0, layer: layers - 1, head: -1, step: 1 };
      const says = saying();
      const drawing = h("svg", { role: "img" });
      const written = h("p");
      const alike = (one) => sentences.flatMap(({ tokens }, i) => (tokens.length === sentences[one].tokens.length ? [[i, sentences[i].source]] : []));
      const run = () => runs.find(({ keys_from, values_from }) => keys_from === state.keys && values_from === state.values);

      function draw() {
        const { written: all, queries } = run();
        const [keys, values] = [sentences[state.keys].keys, sentences[state.values].values].map((each) => numbers(each[state.layer]));
        const asked = numbers(queries[state.layer]);
        const width = keys.shape[1];
        const found = all.map((_, step) => look(asked.subarray(step * width, (step + 1) * width), keys, heads));
        const share = (step, token) =>
          state.head < 0 ? found[step].reduce((sum, head) => sum + head[token], 0) / heads : found[step][state.head][token];
        const names = sentences[state.keys].tokens;
        const others = sentences[state.values].tokens;
        const most = Math.max(names.length, data.longest);
        drawing.setAttribute("viewBox", `0 0 ${most * GAP} ${HIGH + 62}`);
        drawing.setAttribute("width", most * GAP);
        const place = (i, count) => (i + 0.5) * ((most * GAP) / count);
        const parts = [];
        for (let step = 0; step < state.step; step++) {
          names.forEach((_, token) => {
            const weight = share(step, token);
            if (weight < 0.05) return;
            parts.push(h("line", {
              x1: place(token, names.length), y1: 46, x2: place(step, data.longest), y2: 46 + HIGH - 18,
              stroke: data.colours.query, "stroke-width": 0.5 + 5 * weight,
              "stroke-opacity": step === state.step - 1 ? 0.3 + 0.7 * weight : 0.15 * weight,
            }));
          });
        }
        const label = (x, y, fill, text, bold) => h("text", { x, y, "text-anchor": "middle", style: `fill: ${fill}; font-size: 16px`, "font-weight": bold ? "bold" : "normal" }, text);
        names.forEach((name, i) => parts.push(label(place(i, names.length), 38, data.colours.key, name)));
        if (state.values !== state.keys) others.forEach((name, i) => parts.push(label(place(i, names.length), 16, data.colours.value, name)));
        all.slice(0, state.step).forEach((character, i) =>
          parts.push(label(place(i, data.longest), HIGH + 46, i === state.step - 1 ? data.colours.query : "currentColor", character, i === state.step - 1)),
        );
        drawing.replaceChildren(...parts);
        const weights = names.map((_, token) => share(state.step - 1, token));
        const largest = weights.indexOf(Math.max(...weights));
        const value = state.values === state.keys ? "" : `, where the values hold “${others[largest]}”`;
        const exchange = state.values === state.keys ? "" : `With the keys of ${sentences[state.keys].source} and the values of ${sentences[state.values].source}: `;
        written.textContent = `${exchange}${all.slice(0, state.step).filter((token) => token !== "end").join("")}`;
        says.textContent = `Step ${state.step}: “${all[state.step - 1]}” is written. The largest weight, ${percent(weights[largest])}, is on “${names[largest]}”${value}.`;
        drawing.setAttribute("aria-label", says.textContent);
        slide.max = all.length;
        settle(stepping, state.step, state.step);
        expose(root, { ...state, steps: all.length, weights: found[state.step - 1], gathered: gather(found[state.step - 1], values), written: all });
      }

      function toStep(step) {
        state.step = Math.min(run().written.length, Math.max(1, step));
        draw();
      }
      const stepping = slider("step", { min: 1, max: 1, step: 1, value: 1 }, toStep);
      const slide = stepping.querySelector("input");
      const valuesChoice = choice("values of", alike(0), 0, (at) => ((state.values = +at), toStep(state.step)));
      const keysChoice = choice("keys of", sentences.map(({ source }, i) => [i, source]), 0, (at) => {
        state.keys = state.values = +at;
        valuesChoice.querySelector("select").replaceChildren(
          ...alike(state.keys).map(([i, source]) => h("option", { value: i, selected: i === state.values }, source)),
        );
        toStep(1);
      });
      const each = (count, name) => Array.from({ length: count }, (_, i) => [i, `${name} ${i + 1}`]);
      root.append(
        h("div", { class: "row" }, keysChoice, valuesChoice,
          choice("layer", each(layers, "layer"), state.layer, (at) => ((state.layer = +at), draw())),
          choice("head", [[-1, "mean of all"], ...each(heads, "head")], -1, (at) => ((state.head = +at), draw()))),
        h("div", { class: "row" },
          h("button", { type: "button", onclick: () => toStep(state.step - 1) }, "back"),
          h("button", { type: "button", onclick: () => toStep(state.step + 1) }, "next"), stepping),
        drawing, h("div", {}, "Orange: keys. Green: values, if they are another sentence's. Below: what is written."), written, says,
        ...own(model, data),
      );
      toStep(1);
    });
  },
};

/** Two dates of the reader's own, for which a kernel is needed. */
function own(model, data) {
  if (model.get("page") || !data.alive) return [];
  const [keys, values] = ["keys", "values"].map((name) =>
    h("input", { type: "text", value: data.sentences[0].source, size: 24, "aria-label": `your ${name}` }));
  const words = h("span", { role: "status" });
  const go = h("button", { type: "button" }, "Run the model");
  go.addEventListener("click", () => {
    words.textContent = "…";
    ask(model, { keys: keys.value, values: values.value }, () => (words.textContent = "No kernel answers: run this cell first."));
  });
  model.on("change:error", () => (words.textContent = model.get("error")));
  return [h("div", { class: "row" }, h("label", {}, "keys of your", keys), h("label", {}, "values of your", values), go, words)];
}
