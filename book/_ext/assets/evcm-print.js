// A page on paper is whole: what is folded opens, and figures take the width of the sheet.
(function () {
  "use strict";
  const WIDTH = 640; // of a column on A4, in pixels
  let opened = [], widened = [];

  window.addEventListener("beforeprint", () => {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    for (const part of opened) part.open = true;
    widened = window.Plotly ? Array.from(document.querySelectorAll(".js-plotly-plot")) : [];
    for (const graph of widened) Plotly.relayout(graph, { width: WIDTH });
  });

  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
    for (const graph of widened) Plotly.relayout(graph, { width: null, autosize: true });
  });
})();
