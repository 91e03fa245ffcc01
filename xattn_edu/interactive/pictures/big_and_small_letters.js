// A big letter made of small ones: what each branch sees, and what its classifier answers, with each fusion.

const COLUMNS = [
  ["S: the small letter", 0, 1],
  ["S: the big letter", 0, 0],
  ["L: the big letter", 1, 0],
  ["L: the small letter", 1, 1],
  ["both: the relation", 2, 2],
]; // heading; whose answer (S, L, mean of both); of what (big, small, relation)

/** Grey levels on a canvas, each `zoom` pixels wide; the brightest is white. */
function greys(values, rows, columns, zoom, name) {
  const canvas = h("canvas", {
    width: columns, height: rows, role: "img", "aria-label": name,
    style: `width: ${zoom * columns}px; height: ${zoom * rows}px; max-width: 100%`,
  });
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const brightest = Math.max(...values);
  values.forEach((value, i) => {
    const grey = (255 * value) / brightest;
    image.data.set([grey, grey, grey, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Two pixels of 16 greys from each byte. */
const unpacked = (bytes) => Array.from(bytes).flatMap((byte) => [17 * (byte >> 4), 17 * (byte & 15)]);

/** The four shares as bars, the right one in colour, and the largest one in words. */
function cellOf(shares, names, truth, colours) {
  const best = shares.indexOf(Math.max(...shares));
  const bars = shares.flatMap((share, i) => [
    h("rect", { x: 16 * i + 2, y: 2, width: 12, height: 32, class: "rule", "stroke-width": 0.6 }),
    h("rect", {
      x: 16 * i + 2, y: 34 - 32 * share, width: 12, height: 32 * share, fill: i === truth ? colours.sky : colours.grey,
    }),
    h("text", {
      x: 16 * i + 8, y: 46, "text-anchor": "middle", style: `font-size: 11px; font-weight: ${i === truth ? 700 : 400}`,
    }, names[i]),
  ]);
  const style = `white-space: nowrap; font-size: 12px; font-weight: ${shares[truth] >= 0.5 ? 600 : 400}`;
  return h("td", { style: "text-align: center; vertical-align: top; padding: 0.1em" },
    h("svg", { viewBox: "0 0 64 48", style: "width: 72px", "aria-hidden": "true" }, ...bars),
    h("div", { class: "number", style }, `${names[best]} ${percent(shares[best])}`));
}

/** Thousandths as shares, in lists of any depth. */
const shared = (answer) => (Array.isArray(answer) ? answer.map(shared) : answer / 1000);

function wordsOf({ names, fusions, tested }, answers, [big, small, relation]) {
  const listed = (share) => fusions.map(({ name }, i) => `${name} ${percent(share(i))}`).join(", ");
  return `A big ${names[big]} made of small ${names[small]}s: the relation is ${relation}. ` +
    `Its share: ${listed((i) => answers[i][2][2][relation])}. ` +
    `S sees one small letter. The share that it gives the big ${names[big]}: ` +
    `${listed((i) => answers[i][0][0][big])}. ` +
    `Of ${tested.toLocaleString("en")} pictures the relation is right in: ` +
    `${listed((i) => fusions[i].right.mean.relation)}.`;
}

function draw(root, data) {
  const { names, fusions, pictures, colours } = data;
  const state = { big: 0, small: 1 };
  const letters = names.map((name, i) => [i, name]);
  const views = h("div", { class: "row top" });
  const body = h("tbody");
  const line = saying();
  root.append(
    h("div", { class: "row" },
      oneOf("big letter", letters, state.big, (big) => ((state.big = big), show())),
      oneOf("small letters", letters, state.small, (small) => ((state.small = small), show()))),
    views,
    h("div", { style: "overflow-x: auto" }, h("table", { style: "width: 100%; table-layout: fixed" },
      h("caption", { style: "text-align: left; font-weight: 600" },
        "Whose classifier answers what? Blue is the right answer."),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "fusion"),
        ...COLUMNS.map(([heading]) => h("th", { scope: "col", style: "font-weight: 600" }, heading)))),
      body)),
    line,
  );

  function show() {
    const { big, small } = state;
    const pair = 4 * big + small;
    const truth = [big, small, (big + small) % 4];
    const { image, fovea, thumbnail } = pictures[pair];
    const view = (words, canvas) => h("figure", { style: "margin: 0" }, h("figcaption", {}, words), canvas);
    views.replaceChildren(
      view("the picture", greys(unpacked(numbers(image)), 48, 48, 3, `${names[big]} made of small ${names[small]}s`)),
      view("S sees", greys(numbers(fovea), 8, 8, 14, `one small ${names[small]}`)),
      view("L sees", greys(numbers(thumbnail), 6, 6, 18, `a blurred big ${names[big]}`)),
    );
    const answers = fusions.map((fusion) => shared(fusion.answers[pair]));
    body.replaceChildren(...fusions.map(({ name }, row) =>
      h("tr", {}, h("th", { scope: "row", style: "text-align: left; font-size: 12px; padding: 0.1em" }, name),
        ...COLUMNS.map(([, voice, kind]) =>
          cellOf(answers[row][voice][kind], kind === 2 ? ["0", "1", "2", "3"] : names, truth[kind], colours)))));
    const chosen = (shares) => shares.indexOf(Math.max(...shares));
    const right = answers.map((answer) => chosen(answer[2][2]) === truth[2]);
    line.textContent = wordsOf(data, answers, truth);
    expose(root, { big, small, answers, right });
  }
  show();
}

export default {
  render({ model, el }) {
    return mount({ model, el }, draw);
  },
};
