// Draws the figures of a page from the data beside them, and moves their sliders.
(function () {
  "use strict";
  const root = document.documentElement;
  const config = { responsive: true, displaylogo: false, displayModeBar: "hover" };

  function template() {
    const dark = root.dataset.theme === "dark";
    return window.evcmTemplates[dark ? "dark" : "light"];
  }

  // A phone has no room for wide margins, long legends in the plot, or titles in one line.
  function fit(layout, width) {
    const out = Object.assign({}, layout, { template: template(), autosize: true });
    delete out.width;
    if (width < 500) {
      out.margin = Object.assign({ l: 48, r: 8, t: 44, b: 44 }, layout.margin, { r: 8 });
      out.font = Object.assign({}, layout.font, { size: 11 });
      if (layout.title && layout.title.text) {
        out.title = Object.assign({}, layout.title, { font: { size: 12 } });
      }
    }
    return out;
  }

  function apply(base, patch) {
    let spec = structuredClone(base);
    for (const item of patch) {
      const path = item[0];
      if (path.length === 0) { spec = structuredClone(item[1]); continue; }
      let at = spec;
      for (const key of path.slice(0, -1)) at = at[key];
      const last = path[path.length - 1];
      if (item.length === 1) delete at[last];
      else at[last] = structuredClone(item[1]);
    }
    return spec;
  }

  // Place of a control among its values: a slider, a list, or buttons.
  function value(control) {
    const input = control.querySelector("input[type=range], select, input[type=radio]:checked");
    return Number(input.value);
  }

  function draw(block, number) {
    const content = JSON.parse(block.querySelector("script.evcm-spec").textContent);
    const graph = block.querySelector(".evcm-graph");
    const controls = Array.from(block.querySelectorAll(".evcm-control"));
    controls.forEach((control, k) => {
      const name = `evcm-${number}-${k}`;
      for (const radio of control.querySelectorAll("input[type=radio]")) {
        // A name makes radio buttons a group, and would uncheck those of another figure.
        const checked = radio.defaultChecked;
        radio.name = name;
        radio.checked = checked;
      }
    });
    const said = block.querySelector(".evcm-said");
    let spec = content.base;

    function show(method) {
      const layout = fit(spec.layout || {}, block.clientWidth);
      return Plotly[method](graph, structuredClone(spec.data || []), layout, config);
    }

    function index() {
      return controls.reduce((i, control, k) => i * content.sizes[k] + value(control), 0);
    }

    function move() {
      for (const input of block.querySelectorAll("input[type=range]")) {
        const text = JSON.parse(input.dataset.texts)[Number(input.value)];
        input.setAttribute("aria-valuetext", text);
        input.parentElement.querySelector("output").textContent = text;
      }
      spec = apply(content.base, content.patches[index()]);
      if (said) said.textContent = content.said[index()];
      if (spec.layout && spec.layout.meta && spec.layout.meta.alt) {
        graph.setAttribute("aria-label", spec.layout.meta.alt);
      }
      return show("react");
    }

    for (const control of controls) control.addEventListener("input", move);
    // A browser keeps the place of a slider over a reload; show what it says.
    const first = show("newPlot");
    if (spec.frames) first.then(() => Plotly.addFrames(graph, structuredClone(spec.frames)));
    if (controls.length) first.then(move);
    block.evcmRedraw = () => show("react");
    block.evcmDraw = (next) => { spec = next; return show("react"); };
    return first;
  }

  function start() {
    const blocks = Array.from(document.querySelectorAll(".evcm-plot"));
    let chain = Promise.resolve();
    for (const [number, block] of blocks.entries()) {
      chain = chain.then(() => draw(block, number)).then(() => new Promise((r) => setTimeout(r, 0)));
    }
    chain.then(() => root.setAttribute("data-evcm-figures", String(blocks.length)));
    const redraw = () => blocks.forEach((b) => b.evcmRedraw && b.evcmRedraw());
    new MutationObserver(redraw).observe(root, { attributeFilter: ["data-theme"] });
    // Figures in folded sections get their size when they are opened.
    document.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")), true);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
