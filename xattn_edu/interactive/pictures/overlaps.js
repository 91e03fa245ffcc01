// Four objects and a painted rectangle for each, to be moved by hand; from them IoU, oIoU, mIoU and P@0.5.

const CELL = 10;

const pixels = ([, , height, width]) => height * width;

/** Pixels that both boxes have, and pixels that one of them has at least; a box is [top, left, height, width]. */
function overlapOf(one, other) {
  const shared = (axis) =>
    Math.max(0, Math.min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - Math.max(one[axis], other[axis]));
  const intersection = shared(0) * shared(1);
  return { intersection, union: pixels(one) + pixels(other) - intersection };
}

/** The scores of a set of masks, as `xattn_edu.measure.overlaps` has them: an empty union counts as IoU 0. */
function scoresOf(targets, painted) {
  const each = targets.map((target, i) => overlapOf(painted[i], target));
  const sum = (part) => each.reduce((total, pair) => total + pair[part], 0);
  const iou = each.map(({ intersection, union }) => intersection / Math.max(union, 1));
  return {
    each, iou, intersections: sum("intersection"), unions: sum("union"),
    oiou: sum("intersection") / Math.max(sum("union"), 1),
    miou: iou.reduce((total, value) => total + value, 0) / iou.length,
    precision: iou.filter((value) => value >= 0.5).length / iou.length,
  };
}

/** A box of the same size or larger by a step, kept inside the grid. */
function moved([top, left, height, width], [down, right, taller, wider], [rows, columns]) {
  const inside = (value, low, high) => Math.min(high, Math.max(low, value));
  const tall = inside(height + taller, 0, rows);
  const wide = inside(width + wider, 0, columns);
  return [inside(top + down, 0, rows - tall), inside(left + right, 0, columns - wide), tall, wide];
}

const rectangle = ([top, left, height, width], attributes) =>
  h("rect", { x: CELL * left, y: CELL * top, width: CELL * width, height: CELL * height, ...attributes });

function maskOf({ grid: [rows, columns], colours }, target, box) {
  let lines = "";
  for (let row = 1; row < rows; row++) lines += `M0 ${CELL * row}H${CELL * columns}`;
  for (let column = 1; column < columns; column++) lines += `M${CELL * column} 0V${CELL * rows}`;
  const [top, left, height, width] = box;
  return [
    rectangle([0, 0, rows, columns], { fill: colours.grey, "fill-opacity": 0.18 }),
    h("path", { d: lines, class: "rule", "stroke-width": 0.4 }),
    rectangle(box, { fill: colours.output, "fill-opacity": 0.8 }),
    rectangle(target, { fill: "none", stroke: "currentColor", "stroke-width": 2.5 }),
    h("rect", { // the corner that changes the size
      x: CELL * (left + width) - 6, y: CELL * (top + height) - 6, width: 10, height: 10, fill: colours.output,
      stroke: "currentColor", class: "corner",
    }),
  ];
}

/** All unions end to end, as long as their pixels; the intersections are filled. */
function sumOf({ each, unions }, names, colours) {
  const scale = 480 / Math.max(unions, 1);
  let from = 0;
  return each.flatMap(({ intersection, union }, i) => {
    const [x, width] = [from, scale * union];
    from += width;
    const words = `${intersection} / ${union}`;
    return [
      h("rect", { x, y: 20, width, height: 24, fill: colours.grey, "fill-opacity": 0.3, stroke: "currentColor" }),
      h("rect", { x, y: 20, width: scale * intersection, height: 24, fill: colours.value }),
      h("text", { x: x + 3, y: 14 }, width > 110 ? `${names[i]}: ${words}` : width > 40 ? words : ""),
    ];
  });
}

/** Bars from 0 to 1. */
function barsOf({ oiou, miou, precision }, colours) {
  const rows = [["oIoU", oiou, colours.value], ["mIoU", miou, colours.sky], ["P@0.5", precision, colours.orange]];
  return rows.flatMap(([name, value, fill], i) => [
    h("text", { x: 0, y: 28 * i + 17, class: "strong" }, name),
    h("rect", { x: 60, y: 28 * i + 3, width: 340, height: 18, fill: "none", class: "rule" }),
    h("rect", { x: 60, y: 28 * i + 3, width: 340 * value, height: 18, fill }),
    h("text", { x: 410, y: 28 * i + 17, class: "strong" }, value.toFixed(3)),
  ]);
}

function draw(root, data) {
  const { grid, names, targets, colours } = data;
  const [rows, columns] = grid;
  const start = () => data.painted.map((box) => [...box]);
  let painted = start();
  const masks = names.map((name, i) => {
    const mask = h("svg", {
      viewBox: `-4 -4 ${CELL * columns + 8} ${CELL * rows + 8}`, class: "drag", tabindex: 0, role: "application",
      "aria-label": `${name}: arrow keys move the paint, shift and arrow keys change its size`,
    });
    const change = (step) => {
      painted[i] = moved(painted[i], step, grid);
      show(i);
    };
    movable(mask, grid, () => painted[i], change);
    const figure = panel("", mask);
    figure.style = "flex-basis: 12em; max-width: 13em";
    return { mask, figure };
  });
  const [sum, bars] = [h("svg", { viewBox: "0 0 480 50" }), h("svg", { viewBox: "0 0 480 86" })];
  for (const drawing of [sum, bars]) {
    drawing.setAttribute("aria-hidden", "true");
    drawing.setAttribute("style", "width: 100%; max-width: 42em; display: block; overflow: visible");
  }
  const line = saying();
  const setAll = (boxes) => ((painted = boxes), show());
  const away = ([top, left, height, width]) => { // as far from the object as the grid allows
    const far = (place, size, whole) => (2 * place + size < whole ? whole - size : 0);
    return [far(top, height, rows), far(left, width, columns), height, width];
  };
  root.append(
    h("div", { class: "row" },
      h("button", { type: "button", onclick: () => setAll(targets.map((box) => [...box])) }, "all hits"),
      h("button", { type: "button", onclick: () => setAll(targets.map(away)) }, "all elsewhere"),
      h("button", { type: "button", onclick: () => setAll(start()) }, "start again")),
    h("h4", {}, "Outline: the object. Paint: predicted. Drag it; drag its corner to change its size."),
    panels(...masks.map(({ figure }) => figure)),
    h("h4", {}, "All unions side by side, the intersections filled: oIoU is the filled part"), sum,
    h("h4", {}, "The scores"), bars, line,
  );

  function show(last) {
    const scores = scoresOf(targets, painted);
    masks.forEach(({ mask, figure }, i) => {
      const { intersection, union } = scores.each[i];
      mask.replaceChildren(...maskOf(data, targets[i], painted[i]));
      figure.firstChild.textContent = `${names[i]}: ${intersection} / ${union} = ${scores.iou[i].toFixed(2)}`;
    });
    sum.replaceChildren(...sumOf(scores, names, colours));
    bars.replaceChildren(...barsOf(scores, colours));
    const misses = scores.each.flatMap(({ intersection }, i) => (intersection ? [] : [names[i]]));
    const here = last === undefined ? "" : `${names[last]}: IoU ${scores.iou[last].toFixed(2)}. `;
    const missed = misses.length
      ? `No pixel in common: ${misses.join(", ")}. The union of a miss holds both, the true object and all paint.`
      : "No mask is a miss.";
    line.textContent = `${here}oIoU ${scores.intersections} / ${scores.unions} = ${scores.oiou.toFixed(3)}, ` +
      `mIoU ${scores.miou.toFixed(3)}, P@0.5 ${scores.precision.toFixed(2)}. ${missed}`;
    expose(root, { painted, ...scores });
  }
  show();
}

/** The paint follows the pointer, its corner changes its size, and the arrow keys do both. */
function movable(mask, [rows, columns], current, change) {
  let held = null; // where the pointer was, in cells, and whether it holds the corner
  const cells = (event) => {
    const box = mask.getBoundingClientRect();
    const scale = (CELL * columns + 8) / box.width / CELL;
    return [(event.clientY - box.top) * scale, (event.clientX - box.left) * scale];
  };
  mask.addEventListener("pointerdown", (event) => {
    mask.setPointerCapture(event.pointerId);
    held = { at: cells(event), corner: event.target.classList.contains("corner") };
  });
  mask.addEventListener("pointermove", (event) => {
    if (!held) return;
    const at = cells(event);
    const step = at.map((value, axis) => Math.trunc(value - held.at[axis]));
    if (!step[0] && !step[1]) return;
    held.at = held.at.map((value, axis) => value + step[axis]);
    change(held.corner ? [0, 0, ...step] : [...step, 0, 0]);
  });
  for (const end of ["pointerup", "pointercancel"]) mask.addEventListener(end, () => (held = null));
  mask.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    change(event.shiftKey ? [0, 0, ...step] : [...step, 0, 0]);
  });
}

export default {
  render({ model, el }) {
    return mount({ model, el }, draw);
  },
};
