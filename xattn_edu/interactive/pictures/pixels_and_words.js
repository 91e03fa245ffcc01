// Point at a pixel, and its words show their shares; point at a word, and its pixels light up. One stage of LAVT is
// recomputed from V (or Q), K, V of the words and the stage's matrices; the whole model's masks were computed in Python.

/** x (rows, inner) times the transpose of w (out, inner), as nn.Linear does; `bias` may be missing. */
function linear(x, w, bias) {
  const [out, inner] = w.shape;
  const rows = x.length / inner;
  const y = new Float32Array(rows * out);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < out; j++) {
      let sum = bias ? bias[j] : 0;
      for (let k = 0; k < inner; k++) sum += x[i * inner + k] * w[j * inner + k];
      y[i * out + j] = sum;
    }
  }
  return y;
}

/** Each channel to mean 0 and variance 1 over the pixels. */
function instanceNorm(x, channels) {
  const count = x.length / channels;
  const y = new Float32Array(x.length);
  for (let c = 0; c < channels; c++) {
    let mean = 0;
    let variance = 0;
    for (let i = c; i < x.length; i += channels) mean += x[i] / count;
    for (let i = c; i < x.length; i += channels) variance += (x[i] - mean) ** 2 / count;
    const scale = 1 / Math.sqrt(variance + 1e-5);
    for (let i = c; i < x.length; i += channels) y[i] = (x[i] - mean) * scale;
  }
  return y;
}

/** The error function, to 2e-16 by its series and by a continued fraction. */
function erf(x) {
  const a = Math.abs(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; n < 60 && Math.abs(term) > 1e-17; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 40; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction));
}

const gelu = (x) => x.map((value) => 0.5 * value * (1 + erf(value / Math.SQRT2)));
const times = (x, y) => x.map((value, i) => value * y[i]);

/** Attention of one stage: the share that each pixel gives to each word, (head, pixel, word). */
function attend(stage, words, { scaled, struck }) {
  const { channels, heads, pixels, query } = stage;
  const width = channels / heads;
  const root = scaled ? Math.sqrt(channels) : 1; // of all channels, as in the published model
  const weights = new Float32Array(heads * pixels * words.length);
  for (let head = 0; head < heads; head++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      const scores = words.map(({ key }, word) => {
        if (struck[word]) return -1e30;
        let sum = 0;
        for (let c = head * width; c < (head + 1) * width; c++) sum += query[pixel * channels + c] * key[c];
        return sum / root;
      });
      weights.set(softmax(scores), (head * pixels + pixel) * words.length);
    }
  }
  return weights;
}

/** F and gate(F) * F of one stage, (pixel, channel) each, from the weights. */
function fuse(stage, words, weights, { struck }) {
  const { channels, heads, pixels, vision, w } = stage;
  const width = channels / heads;
  const mixed = new Float32Array(pixels * channels);
  for (let head = 0; head < heads; head++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      words.forEach(({ value }, word) => {
        const share = struck[word] ? 0 : weights[(head * pixels + pixel) * words.length + word];
        for (let c = head * width; c < (head + 1) * width; c++) mixed[pixel * channels + c] += share * value[c];
      });
    }
  }
  const gathered = instanceNorm(linear(mixed, w.language), channels);
  const seen = gelu(linear(vision, w.vision, w.vision_bias));
  const fused = gelu(linear(times(seen, gathered), w.output, w.output_bias));
  const hidden = linear(fused, w.gate_in).map((value) => Math.max(value, 0));
  const gate = linear(hidden, w.gate_out).map(Math.tanh);
  return { fused, passed: times(gate, fused) };
}

/** The length of each pixel's vector. */
function lengths(x, channels) {
  return Float32Array.from({ length: x.length / channels }, (_, i) =>
    Math.hypot(...x.subarray(i * channels, (i + 1) * channels)),
  );
}

/** A stage with its arrays decoded. */
function opened(stage) {
  const w = Object.fromEntries(Object.entries(stage.w ?? {}).map(([name, array]) => [name, numbers(array)]));
  const { channels, grid } = stage;
  const vision = stage.vision && numbers(stage.vision);
  const query = vision ? instanceNorm(linear(vision, w.query), channels) : numbers(stage.query);
  const [keys, values] = [numbers(stage.keys), stage.values && numbers(stage.values)];
  return { ...stage, w, vision, query, keys, values, pixels: grid[0] * grid[1] };
}

/** An image (row, column, 3) of 0 to 255 from 16 bits a pixel: five of red, six of green, five of blue. */
function colours(array) {
  const bytes = numbers(array);
  const [rows, columns] = array.shape;
  const image = new Float32Array(rows * columns * 3);
  for (let i = 0; i < rows * columns; i++) {
    const pixel = bytes[2 * i] * 256 + bytes[2 * i + 1];
    image.set([(pixel >> 11) * 255 / 31, ((pixel >> 5) & 63) * 255 / 63, (pixel & 31) * 255 / 31], 3 * i);
  }
  image.shape = [rows, columns, 3];
  return image;
}

function overlap(one, other) {
  let both = 0;
  let either = 0;
  one.forEach((bit, i) => ((both += bit & other[i]), (either += bit | other[i])));
  return either ? both / either : 1;
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** Paint an image, mixed with a colour where `alpha` (a grid of numbers 0 to 1) says so, on a canvas. */
function paint(canvas, image, [rows, columns], alpha, colour, dim) {
  const [side] = image.shape;
  const [r, g, b] = rgb(colour);
  const scale = canvas.width / side;
  const context = canvas.getContext("2d");
  const shown = context.createImageData(canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const from = (Math.floor(y / scale) * side + Math.floor(x / scale)) * 3;
      const at = Math.floor((y / canvas.height) * rows) * columns + Math.floor((x / canvas.width) * columns);
      const a = alpha[at];
      const grey = (image[from] + image[from + 1] + image[from + 2]) / 3;
      [r, g, b].forEach((paintOf, c) => {
        const own = dim * image[from + c] + (1 - dim) * (0.6 * grey + 60);
        shown.data[(y * canvas.width + x) * 4 + c] = (1 - a) * own + a * paintOf;
      });
      shown.data[(y * canvas.width + x) * 4 + 3] = 255;
    }
  }
  context.putImageData(shown, 0, 0);
}

const MAPS = [
  ["word", "who reads the word"],
  ["F", "length of F (to the decoder)"],
  ["passed", "length of gate(F) ⊙ F (onward)"],
];
const SIDE = 384;

export default {
  render({ model, el }) {
    return mount({ model, el }, (root, data) => {
      const stages = data.stages.map(opened);
      const image = colours(data.image);
      const truth = bits(data.truth);
      const state = { stage: 0, head: 0, row: 0, column: 0, word: data.word, map: "word", scaled: true, gate: 1 };
      state.struck = data.words.map(() => false);
      state.exchanged = data.words.map(() => -1);
      const says = saying();

      // --- what a stage computes

      const usual = stages.map(() => null); // F as it is when nothing is changed
      let found;
      function wordsOf(index) {
        const { channels, keys, values } = stages[index];
        return data.words.map((_, word) => {
          const other = data.others[state.exchanged[word]];
          if (other) return { key: numbers(other.keys[index]), value: other.values[index] && numbers(other.values[index]) };
          const part = (array) => array && array.subarray(word * channels, (word + 1) * channels);
          return { key: part(keys), value: part(values) };
        });
      }
      function compute() {
        const stage = stages[state.stage];
        const words = wordsOf(state.stage);
        const weights = attend(stage, words, state);
        found = { weights };
        if (!stage.vision) return;
        const { fused, passed } = fuse(stage, words, weights, state);
        found.fused = fused;
        found.F = lengths(fused, stage.channels);
        found.passed = lengths(passed, stage.channels).map((length) => length * state.gate);
        if (!changed()) usual[state.stage] = fused;
        else if (!usual[state.stage]) {
          const plain = { scaled: true, struck: state.struck.map(() => false) };
          const kept = state.exchanged;
          state.exchanged = kept.map(() => -1);
          const own = wordsOf(state.stage);
          state.exchanged = kept;
          usual[state.stage] = fuse(stage, own, attend(stage, own, plain), plain).fused;
        }
      }
      const changed = () => !state.scaled || state.struck.some(Boolean) || state.exchanged.some((other) => other >= 0);
      const share = (pixel, word) =>
        found.weights[(state.head * stages[state.stage].pixels + pixel) * data.words.length + word];
      const left = () => state.struck.filter((struck) => !struck).length;

      // --- the picture

      const canvas = h("canvas", { width: SIDE, height: SIDE, tabindex: 0, role: "application" });
      canvas.style.cssText = "width: min(100%, 384px); cursor: crosshair; touch-action: none;";
      const legend = h("div");
      const whole = h("canvas", { width: 192, height: 192, role: "img", "aria-label": "the whole model's mask" });
      whole.style.cssText = "width: 192px; max-width: 100%;";
      const wholeSays = h("div");
      const rows = data.words.map((word, index) => {
        const bar = h("rect", { height: 14, y: 2, fill: data.colours.key });
        const number = h("span", { class: "number" });
        const name = toggle(word, index === state.word, () => pointAtWord(index), { "aria-label": `word ${word}` });
        name.addEventListener("pointerenter", () => pointAtWord(index));
        const strike = toggle("strike", false, (on) => ((state.struck[index] = on), update()), {
          "aria-label": `strike out ${word}`,
        });
        const others = data.others.map((other, at) => [at, other.word, other.place]).filter(([, , at]) => at === index);
        const swap = h("select", { "aria-label": `exchange ${word}` });
        swap.append(h("option", { value: -1 }, word), ...others.map(([at, other]) => h("option", { value: at }, other)));
        swap.addEventListener("change", () => ((state.exchanged[index] = +swap.value), update()));
        const line = h("svg", { viewBox: "0 0 120 18", width: 120, height: 18, "aria-hidden": "true" }, bar);
        line.append(h("line", { x1: 20, x2: 20, y1: 0, y2: 18, stroke: "currentColor", "stroke-dasharray": "2 2" }));
        const cells = [name, line, number, strike, others.length ? swap : ""].map((part) => h("td", {}, part));
        return { row: h("tr", {}, ...cells), bar, number, name };
      });

      function draw() {
        const stage = stages[state.stage];
        const [gridRows, gridColumns] = stage.grid;
        const pixel = state.row * gridColumns + state.column;
        const map =
          state.map === "word" || !found.F
            ? Float32Array.from({ length: stage.pixels }, (_, at) => share(at, state.word) * left())
            : found[state.map];
        const most = state.map === "passed" ? Math.max(...found.F) : Math.max(...map);
        const colour = state.map === "word" || !found.F ? data.colours.key : data.colours.output;
        paint(canvas, image, stage.grid, map.map((value) => (0.9 * value) / (most || 1)), colour, 0.2);
        const context = canvas.getContext("2d");
        const box = [(state.column * SIDE) / gridColumns, (state.row * SIDE) / gridRows, SIDE / gridColumns, SIDE / gridRows];
        for (const [line, width] of [["white", 5], [data.colours.query, 3]]) {
          context.strokeStyle = line;
          context.lineWidth = width;
          context.strokeRect(...box);
        }
        const name = data.others[state.exchanged[state.word]]?.word ?? data.words[state.word];
        legend.textContent =
          state.map === "word" || !found.F
            ? `Full colour: ${most.toFixed(1)} even shares for “${name}”. The blue square is the pixel.`
            : `Full colour: a vector of length ${most.toFixed(2)}. ${state.map === "passed" ? "The scale is that of F." : ""}`;
        const shares = data.words.map((_, word) => share(pixel, word));
        rows.forEach(({ row, bar, number, name: button }, word) => {
          bar.setAttribute("width", Math.min(120, 20 * shares[word] * left()));
          number.textContent = (shares[word] * left()).toFixed(1);
          row.style.textDecoration = state.struck[word] ? "line-through" : "";
          button.setAttribute("aria-pressed", String(word === state.word));
        });
        canvas.setAttribute("aria-label", `the image: pixel in row ${state.row}, column ${state.column}; arrow keys move`);
        const most_read = shares.indexOf(Math.max(...shares));
        says.textContent =
          `Stage ${state.stage + 1}: the pixel in row ${state.row}, column ${state.column} reads ` +
          `“${data.others[state.exchanged[most_read]]?.word ?? data.words[most_read]}” most, ${(shares[most_read] * left()).toFixed(1)} even shares. ${moved()}`;
        const short = (array) => [...array].map((value) => +value.toPrecision(8));
        expose(root, { ...state, shares, map: short(map), F: found.F && short(found.F), passed: found.passed && short(found.passed) });
      }

      /** How far F is from what it is when nothing is changed. */
      function moved() {
        if (!changed()) return state.gate === 1 ? "Nothing is changed." : "The gates change what is passed on, not F.";
        if (!found.F) return "";
        const { grid, channels, pixels } = stages[state.stage];
        const cell = image.shape[0] / grid[0];
        const sums = { in: [0, 0], out: [0, 0] };
        for (let i = 0; i < pixels; i++) {
          const at = Math.floor((Math.floor(i / grid[1]) + 0.5) * cell) * image.shape[0] + Math.floor(((i % grid[1]) + 0.5) * cell);
          const sum = truth[at] ? sums.in : sums.out;
          for (let c = i * channels; c < (i + 1) * channels; c++) {
            sum[0] += (found.fused[c] - usual[state.stage][c]) ** 2;
            sum[1] += usual[state.stage][c] ** 2;
          }
        }
        const [inside, outside] = [sums.in, sums.out].map(([moved, all]) => percent(Math.sqrt(moved / (all || 1))));
        return `With your changes F moves by ${inside} of its length on the object that is meant, ${outside} elsewhere.`;
      }

      /** The mask of the whole model with the same change, if it is a single one that was stored. */
      function answer() {
        const struck = state.struck.flatMap((on, place) => (on ? [place] : []));
        const swapped = state.exchanged.filter((other) => other >= 0);
        const changes = struck.length + swapped.length + !state.scaled + (state.gate !== 1);
        const fits = ({ what, which }) =>
          (changes === 0 && what === "as it is") ||
          (changes === 1 &&
            ((what === "strike" && which === struck[0] && struck.length) ||
              (what === "exchange" && which === swapped[0] && swapped.length) ||
              (what === "scale" && !state.scaled) ||
              (what === "gate" && Math.abs(which - state.gate) < 1e-6 && state.gate !== 1)));
        const stored = data.answers.find(fits);
        const mask = stored ? bits(stored.mask) : truth.map(() => 0);
        paint(whole, image, image.shape, mask.map((bit) => 0.8 * bit), "#FF00FF", 0.75);
        wholeSays.textContent = stored
          ? `${stored.words}: IoU ${overlap(mask, truth).toFixed(2)}`
          : "Of the whole model, masks for one change at a time are stored; yours are several.";
        root.dataset.whole = stored ? stored.what : "";
      }

      function update() {
        compute();
        draw();
        answer();
      }
      function pointAtWord(word) {
        state.word = word;
        if (state.map !== "word") state.map = mapChoice.querySelector("select").value = "word";
        draw();
      }
      function pointAt(event) {
        const [gridRows, gridColumns] = stages[state.stage].grid;
        const { left: x, top: y, width, height } = canvas.getBoundingClientRect();
        const place = (at, size, count) => Math.min(count - 1, Math.max(0, Math.floor((at / size) * count)));
        state.column = place(event.clientX - x, width, gridColumns);
        state.row = place(event.clientY - y, height, gridRows);
        draw();
      }
      for (const kind of ["pointermove", "pointerdown"]) canvas.addEventListener(kind, pointAt);
      canvas.addEventListener("keydown", (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation();
        const [gridRows, gridColumns] = stages[state.stage].grid;
        state.row = Math.min(gridRows - 1, Math.max(0, state.row + step[0]));
        state.column = Math.min(gridColumns - 1, Math.max(0, state.column + step[1]));
        draw();
      });

      // --- the controls

      function toStage(index) {
        const before = stages[state.stage].grid;
        state.stage = index;
        const { grid, heads } = stages[index];
        state.row = Math.floor(((state.row + 0.5) / before[0]) * grid[0]);
        state.column = Math.floor(((state.column + 0.5) / before[1]) * grid[1]);
        state.head = Math.min(state.head, heads - 1);
        headChoice.hidden = heads === 1;
        headChoice.querySelector("select").replaceChildren(
          ...Array.from({ length: heads }, (_, head) => h("option", { value: head, selected: head === state.head }, head + 1)),
        );
        const maps = mapChoice.querySelector("select");
        maps.disabled = !stages[index].vision; // no F is known there
        if (maps.disabled) state.map = maps.value = "word";
        update();
      }
      const words = stages.map(({ grid, channels }, i) => [i, `${i + 1}: ${grid[0]} x ${grid[1]} pixels, ${channels} channels`]);
      const headChoice = choice("head", [[0, 1]], 0, (head) => ((state.head = +head), draw()));
      const mapChoice = choice("on the image", MAPS, "word", (map) => ((state.map = map), draw()));
      const scale = toggle("divide by √C", true, (on) => ((state.scaled = on), update()));
      const gate = slider("gates", { min: 0, max: 1, step: 0.25, value: 1, show: (g) => (g ? `${g} of what they pass` : "shut") }, (g) => {
        state.gate = g;
        update();
      });
      [state.row, state.column] = data.pixel;
      root.append(
        h("div", { class: "row" }, choice("stage", words, 0, (index) => toStage(+index)), headChoice, mapChoice, scale, gate),
        h("div", { class: "row top" },
          h("div", { style: "flex: 0 1 384px" }, canvas, legend),
          h("div", {},
            h("h4", {}, "The pixel's words, in even shares"), h("table", {}, ...rows.map(({ row }) => row)),
            h("h4", {}, "The whole model"), h("div", { class: "row top" }, whole, h("div", { style: "max-width: 11em" }, wholeSays)),
          ),
        ),
        says,
        ...own(model, data),
      );
      toStage(0);
    });
  },
};

/** A sentence and a scene of the reader's own, for which a kernel is needed. */
function own(model, data) {
  if (model.get("page") || !data.alive) return [];
  const sentence = h("input", { type: "text", value: data.sentence, size: 40, "aria-label": "sentence" });
  const scene = h("input", { type: "number", value: data.scene, min: 0, max: 9999, "aria-label": "scene" });
  const words = h("span", { role: "status" }, data.remark ?? "");
  const go = h("button", { type: "button" }, "Run the model");
  go.addEventListener("click", () => {
    words.textContent = "…";
    ask(model, { sentence: sentence.value, scene: +scene.value }, () => (words.textContent = "No kernel answers: run this cell first."));
  });
  model.on("change:error", () => (words.textContent = model.get("error")));
  return [h("div", { class: "row" }, h("label", {}, "your sentence", sentence), h("label", {}, "scene", scene), go, words)];
}
