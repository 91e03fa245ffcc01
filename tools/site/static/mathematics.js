// Typesets what Sphinx marked as mathematics, and the formulas of hints, which are raw HTML as in the notebook.
const settings = (left, right, display) => ({delimiters: [{left, right, display}], throwOnError: false});
for (const element of document.querySelectorAll(".math")) {
  const shown = element.tagName === "DIV";
  renderMathInElement(element, settings(shown ? "\\[" : "\\(", shown ? "\\]" : "\\)", shown));
}
for (const element of document.querySelectorAll("article details")) {
  renderMathInElement(element, settings("$", "$", false));
}
