// Sets the mathematics, then starts the deck. The notes' formulas become MathML, which needs no style sheet: the
// speaker's window has none of ours.
for (const formula of document.querySelectorAll(".math")) {
  const inNotes = formula.closest("aside.notes") !== null;
  katex.render(formula.textContent, formula, {
    displayMode: formula.classList.contains("block"),
    output: inNotes ? "mathml" : "htmlAndMathml",
    throwOnError: false,
  });
}

Reveal.initialize({
  width: 1280,
  height: 720,
  margin: 0,
  maxScale: 4,
  center: false,
  hash: true,
  transition: "none",
  controls: false,
  slideNumber: "c/t",
  pdfSeparateFragments: false,
  pdfMaxPagesPerSlide: 1,
  plugins: [RevealNotes],
});

// A displayed equation that is wider than its slide is made smaller, when it can be measured: on the slide in sight.
function fit(slides) {
  for (const block of slides.flatMap((slide) => [...slide.querySelectorAll(".frame .math.block")])) {
    const formula = block.querySelector(".katex-html");
    const ratio = block.clientWidth / formula.scrollWidth;
    if (ratio < 1) block.style.fontSize = `${(0.98 * ratio).toFixed(3)}em`;
  }
}
Reveal.on("ready", (event) => fit([event.currentSlide]));
Reveal.on("slidechanged", (event) => fit([event.currentSlide]));
Reveal.on("pdf-ready", () => fit(Reveal.getSlides()));
