// One layer of self-attention: choose head and mask, and split the heads right (transpose) or wrong (a bare view).

/** Where number `d` of row `row` of a head lies in tokens (token, channel) that are stored row by row. */
function placeOf(head, row, d, { count, width, heads }, right) {
  const dim = width / heads;
  return right ? row * width + head * dim + d : (head * count + row) * dim + d;
}

/** The token whose numbers stand in a row of a head. */
const ownerOf = (head, row, shape, right) => Math.floor(placeOf(head, row, 0, shape, right) / shape.width);

/** One head's part of q, k or v: a list of rows. */
function rowsOf(x, head, shape, right) {
  const dim = shape.width / shape.heads;
  return Array.from({ length: shape.count }, (_, row) =>
    Array.from({ length: dim }, (_, d) => x[placeOf(head, row, d, shape, right)]),
  );
}

const MASKS = {
  none: ["no mask", () => true],
  causal: ["causal: itself and earlier", (query, key) => key <= query],
  padding: ["the last three are padding", (query, key, count) => key < Math.max(1, count - 3)],
  window: ["neighbours only", (query, key) => Math.abs(query - key) <= 1],
  words: ["[CLS] and [SEP] hidden", (query, key, count) => key > 0 && key < count - 1],
};

/** The weights of one head, (query, key). */
function weightsOf({ q, k }, head, shape, right, allowed) {
  const [queries, keys] = [q, k].map((x) => rowsOf(x, head, shape, right));
  const root = Math.sqrt(shape.width / shape.heads);
  return queries.map((query, i) =>
    softmax(keys.map((key, j) => (allowed(i, j, shape.count) ? dot(query, key) / root : -Infinity))),
  );
}

/** The outputs (token, channel) of all heads, put back as they were split, before the layer's last matrix. */
function outputs(layer, shape, right, allowed) {
  const merged = new Float32Array(shape.count * shape.width);
  for (let head = 0; head < shape.heads; head++) {
    const values = rowsOf(layer.v, head, shape, right);
    weightsOf(layer, head, shape, right, allowed).forEach((weights, row) =>
      values[0].forEach((_, d) => {
        merged[placeOf(head, row, d, shape, right)] = dot(weights, values.map((value) => value[d]));
      }),
    );
  }
  return merged;
}

/** The tokens that the output of one token depends on, through any head. */
function reached(token, shape, right, allowed) {
  const found = new Set();
  for (let head = 0; head < shape.heads; head++) {
    for (let row = 0; row < shape.count; row++) {
      if (ownerOf(head, row, shape, right) !== token) continue;
      found.add(token); // through its query
      for (let key = 0; key < shape.count; key++) {
        if (allowed(row, key, shape.count)) found.add(ownerOf(head, key, shape, right));
      }
    }
  }
  return [...found].sort((one, other) => one - other);
}

const CELL = 28;
const LEFT = 92;
const TOP = 78;
const RIGHT = 44; // for the last slanted word

export default {
  render({ model, el }) {
    return mount({ model, el }, (root, data) => {
      const state = { sentence: 0, layer: 0, head: 0, mask: "none", right: true, row: 1 };
      const says = saying();
      const table = h("svg", { tabindex: 0, role: "application" });
      const owners = h("p");
      const reach = h("p");
      let layers;
      let shape;
      let words;

      function open() {
        const one = data.sentences[state.sentence];
        words = one.words;
        shape = { count: words.length, width: data.width, heads: data.heads };
        layers = one.layers.map(({ q, k, v }) => ({ q: numbers(q), k: numbers(k), v: numbers(v) }));
        state.row = Math.min(state.row, words.length - 1);
      }

      function draw() {
        const allowed = MASKS[state.mask][1];
        const weights = weightsOf(layers[state.layer], state.head, shape, state.right, allowed);
        const names = words.map((_, row) => words[ownerOf(state.head, row, shape, state.right)]);
        const size = CELL * words.length;
        table.setAttribute("viewBox", `0 0 ${LEFT + size + RIGHT} ${TOP + size + 4}`);
        table.setAttribute("width", LEFT + size + RIGHT);
        const parts = [];
        names.forEach((name, i) => {
          const middle = i * CELL + CELL / 2;
          parts.push(h("text", { x: LEFT - 6, y: TOP + middle + 4, "text-anchor": "end",
            "font-weight": i === state.row ? "bold" : "normal" }, name));
          parts.push(h("text", { transform: `translate(${LEFT + middle + 4} ${TOP - 6}) rotate(-55)` }, name));
          weights[i].forEach((weight, j) => {
            const box = { x: LEFT + j * CELL, y: TOP + i * CELL, width: CELL - 1, height: CELL - 1 };
            const open = allowed(i, j, words.length);
            const fill = open ? data.colours.query : data.colours.grey;
            const cell = h("rect", { ...box, fill, "fill-opacity": open ? 0.04 + 0.96 * weight : 0.25 },
              h("title", {}, `${name} to ${names[j]}: ${open ? percent(weight) : "masked"}`));
            // Not pointerenter: a redraw puts a new cell under a resting pointer, and the arrow keys would lead back.
            cell.addEventListener("pointermove", ({ movementX, movementY }) => {
              if (state.row !== i && (movementX || movementY)) (state.row = i), draw();
            });
            parts.push(cell);
            if (!open) parts.push(h("line", { x1: box.x + 6, y1: box.y + 6, x2: box.x + CELL - 7, y2: box.y + CELL - 7,
              stroke: "currentColor", "stroke-opacity": 0.5, "pointer-events": "none" }));
          });
        });
        parts.push(h("rect", { x: LEFT - 1, y: TOP + state.row * CELL - 1, width: size + 1, height: CELL + 1,
          fill: "none", stroke: data.colours.orange, "stroke-width": 3, "pointer-events": "none" }));
        table.replaceChildren(...parts);

        const most = weights[state.row].indexOf(Math.max(...weights[state.row]));
        const seen = reached(state.row, shape, state.right, allowed);
        const dim = shape.width / shape.heads;
        table.setAttribute("aria-label", `attention weights, row ${state.row + 1} of ${words.length}; arrow keys move`);
        says.textContent =
          `Head ${state.head + 1}, row ${state.row + 1} (“${names[state.row]}”) gives ${percent(weights[state.row][most])} ` +
          `to “${names[most]}”. The output of “${words[state.row]}” depends on ${seen.length} of ${words.length} words.`;
        owners.textContent = state.right
          ? `Each row of a head holds ${dim} channels of one token: row ${state.row + 1} those of “${words[state.row]}”.`
          : `Row ${state.row + 1} should be “${words[state.row]}”. A bare view put ${dim} channels of “${names[state.row]}” ` +
            `there: this head holds only ${[...new Set(names)].map((name) => `“${name}”`).join(", ")}.`;
        reach.replaceChildren(`The output of “${words[state.row]}” depends on: `,
          ...words.flatMap((word, i) => [h(seen.includes(i) ? "strong" : "s", {}, word), " "]));
        expose(root, { ...state, weights, reached: seen, outputs: [...outputs(layers[state.layer], shape, state.right, allowed)] });
      }

      table.addEventListener("keydown", (event) => {
        const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation();
        state.row = Math.min(words.length - 1, Math.max(0, state.row + step));
        draw();
      });
      const list = (count, name) => Array.from({ length: count }, (_, i) => [i, `${name} ${i + 1}`]);
      const sentences = data.sentences.map(({ words }, i) => [i, words.slice(1, -1).join(" ")]);
      open();
      root.append(
        h("div", { class: "row" },
          choice("sentence", sentences, 0, (at) => ((state.sentence = +at), open(), draw())),
          layers.length > 1 && choice("layer", list(layers.length, "layer"), 0, (at) => ((state.layer = +at), draw())),
          choice("head", list(data.heads, "head"), 0, (at) => ((state.head = +at), draw())),
          choice("mask", Object.entries(MASKS).map(([name, [words]]) => [name, words]), "none", (name) => ((state.mask = name), draw())),
          toggle("split by a bare view (wrong)", false, (on) => ((state.right = !on), draw())),
        ),
        h("div", { class: "row top" }, table, h("div", { style: "flex: 1 1 14em" }, owners, reach)),
        says,
        ...own(model, data),
      );
      draw();
    });
  },
};

/** A sentence of the reader's own, for which a kernel is needed. */
function own(model, data) {
  if (model.get("page") || !data.alive) return [];
  const sentence = h("input", { type: "text", value: data.sentences[0].words.slice(1, -1).join(" "), size: 40, "aria-label": "your sentence" });
  const words = h("span", { role: "status" }, data.remark ?? "");
  const go = h("button", { type: "button" }, "Run the model");
  go.addEventListener("click", () => {
    words.textContent = "…";
    ask(model, { sentence: sentence.value }, () => (words.textContent = "No kernel answers: run this cell first."));
  });
  model.on("change:error", () => (words.textContent = model.get("error")));
  return [h("div", { class: "row" }, h("label", {}, "your sentence", sentence), go, words)];
}
