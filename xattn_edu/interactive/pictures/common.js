// What every picture uses. `Picture` in picture.py puts this text in front of a picture's own module.

/** An element with attributes, listeners (names that begin with "on") and children. */
function h(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "line", "path", "circle", "text", "polyline", "polygon", "image", "title"];
  const element = svg.includes(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== false));
  return element;
}

const STYLE = `
.xattn-picture { font: 14px/1.4 system-ui, sans-serif; color: var(--jp-content-font-color1, inherit); max-width: 64em;
  container-type: inline-size; padding: 0.3em; }
.xattn-picture .row { display: flex; flex-wrap: wrap; gap: 0.5em 1em; align-items: center; margin: 0.4em 0; }
.xattn-picture .row.top { align-items: flex-start; }
.xattn-picture [hidden] { display: none; }
.xattn-picture button, .xattn-picture select, .xattn-picture input[type=text] { font: inherit; color: inherit;
  background: transparent; border: 1px solid #8888; border-radius: 4px; padding: 0.15em 0.5em; }
.xattn-picture option { color: CanvasText; background: Canvas; }
.xattn-picture button { cursor: pointer; }
.xattn-picture button[aria-pressed=true] { border-color: currentColor; box-shadow: inset 0 0 0 1px currentColor; }
.xattn-picture :focus-visible { outline: 3px solid #E69F00; outline-offset: 1px; }
.xattn-picture label { display: inline-flex; flex-wrap: wrap; gap: 0.4em; align-items: center; }
.xattn-picture fieldset { border: 1px solid #8886; border-radius: 4px; margin: 0; padding: 0.2em 0.6em; }
.xattn-picture legend { font-weight: 600; padding: 0 0.3em; }
.xattn-picture h4 { margin: 0.2em 0; font-size: 1em; }
.xattn-picture .says { min-height: 2.8em; border-left: 3px solid #8888; padding-left: 0.6em; margin: 0.4em 0; }
.xattn-picture output, .xattn-picture .number { font-variant-numeric: tabular-nums; }
.xattn-picture svg { max-width: 100%; height: auto; } .xattn-picture svg text { fill: currentColor; font-size: 12px; }
.xattn-picture canvas { image-rendering: pixelated; }
.xattn-picture table { border-collapse: collapse; } .xattn-picture td, .xattn-picture th { padding: 0 0.4em; }
.xattn-picture .panels { display: flex; flex-wrap: wrap; gap: 0.5em 1.6em; align-items: flex-start; }
.xattn-picture .panel { flex: 1 1 23em; min-width: 0; max-width: 29em; margin: 0; }
.xattn-picture .panel > svg { width: 100%; display: block; overflow: visible; }
.xattn-picture figcaption { font-weight: 600; margin: 0.2em 0; }
.xattn-picture .rule { stroke: currentColor; stroke-opacity: 0.25; fill: none; }
.xattn-picture svg text.strong { font-weight: 600; font-size: 14px; }
.xattn-picture .drag { touch-action: none; cursor: grab; }
`;

/** Draw a picture into `el`, and again whenever the kernel sends other data. `draw(root, data)` fills `root`. */
function mount({ model, el }, draw) {
  const root = h("div", { class: "xattn-picture" });
  const show = () => {
    root.replaceChildren(h("style", {}, STYLE));
    draw(root, model.get("data"));
  };
  el.replaceChildren(root);
  root.addEventListener("keydown", (event) => { // in JupyterLab arrows and Enter also choose and edit cells
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  });
  model.on("change:data", show);
  show();
  return () => model.off("change:data", show);
}

/** A line that a screen reader reads when it changes. Returns the element; set its `textContent`. */
function saying() {
  return h("p", { class: "says", "aria-live": "polite" });
}

/** Put numbers where a test can read them: as JSON in `data-computed` of the picture. */
function expose(root, numbers) {
  root.dataset.computed = JSON.stringify(numbers);
}

/** A labelled slider. `show` makes the words beside it from its value. */
function slider(label, { min, max, step, value, show = String }, changed) {
  const words = h("output", {}, show(value));
  const input = h("input", { type: "range", min, max, step, value, "aria-label": label });
  input.addEventListener("input", () => {
    words.textContent = show(+input.value);
    input.setAttribute("aria-valuetext", words.textContent);
    changed(+input.value);
  });
  return h("label", {}, label, input, words);
}

/** A labelled list of choices: [value, words] each. */
function choice(label, options, value, changed) {
  const list = h("select", { "aria-label": label });
  for (const [each, words] of options) list.append(h("option", { value: each, selected: each === value }, words));
  list.addEventListener("change", () => changed(list.value));
  return h("label", {}, label, list);
}

/** A button that stays pressed: `changed(pressed)`. */
function toggle(words, pressed, changed, attributes = {}) {
  const button = h("button", { type: "button", "aria-pressed": String(pressed), ...attributes }, words);
  button.addEventListener("click", () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(now));
    changed(now);
  });
  return button;
}

/** The numbers of an array that Python encoded (see `encoded` in picture.py), as Float32Array; `shape` beside them. */
function numbers({ type, shape, base64, low = 0, high = 0 }) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  let values;
  if (type === "uint8") {
    values = Float32Array.from(bytes, (byte) => (high > low ? low + ((high - low) * byte) / 255 : byte));
  } else if (type === "float32") {
    values = new Float32Array(bytes.buffer);
  } else {
    values = Float32Array.from(new Uint16Array(bytes.buffer), half);
  }
  values.shape = shape;
  return values;
}

/** A mask, row by row, from the lengths of its runs: the first is of zeros, the second of ones, and so on. */
const bits = (runs) => runs.flatMap((length, i) => new Array(length).fill(i % 2));

/** A number of 16 bits (IEEE 754 half precision). */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** Softmax of a list of scores; -Infinity gets 0. */
function softmax(scores) {
  const largest = Math.max(...scores);
  const e = scores.map((score) => Math.exp(score - largest));
  const sum = e.reduce((one, other) => one + other, 0);
  return e.map((value) => value / sum);
}

/** The dot product of two lists. */
function dot(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += one[i] * other[i];
  return sum;
}

const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** Ask the kernel for other data. `silent` is called when no kernel answers: a stored notebook has none. */
function ask(model, request, silent) {
  model.set("error", ""); // before anything listens: only the kernel's answer ends the wait
  const timer = setTimeout(silent, 20000);
  const stop = () => clearTimeout(timer);
  for (const event of ["change:data", "change:error"]) {
    const once = () => (stop(), model.off(event, once));
    model.on(event, once);
  }
  model.set("request", { ...request, number: Date.now() });
  model.save_changes();
}

/** Buttons of which one is pressed: [value, words] each. `settle` presses another without a call of `changed`. */
function oneOf(label, options, value, changed) {
  const group = h("div", { role: "group", "aria-label": label, class: "row" }, h("span", {}, label));
  const buttons = options.map(([, words]) => h("button", { type: "button" }, words));
  group.settle = (chosen) => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(options[i][0] === chosen)));
  };
  buttons.forEach((button, i) => {
    button.addEventListener("click", () => (group.settle(options[i][0]), changed(options[i][0])));
  });
  group.append(...buttons);
  group.settle(value);
  return group;
}

/** Move a slider of `slider` without a call of its listener. */
function settle(label, value, words) {
  const input = label.querySelector("input");
  input.value = value;
  input.setAttribute("aria-valuetext", words);
  label.querySelector("output").textContent = words;
}

/** A drawing under a heading of its own, one of several that stand side by side where there is room. */
function panel(heading, ...drawings) {
  return h("figure", { class: "panel" }, h("figcaption", {}, heading), ...drawings);
}

const panels = (...figures) => h("div", { class: "panels" }, ...figures);
