// Sliders whose figure is optimised in the page itself. The figure that was computed when the book
// was built stands there first, and stays where this browser cannot compute.
(function () {
  "use strict";
  const PATIENCE = 300; // ms after which the page says that it is solving
  const CANCEL = 150; // ms after which a new move ends the solve under way

  function format(template, words) {
    return template.replace(/\{(\w+)(?::([^}]*))?\}/g, (_, name, how) => {
      const value = words[name];
      if (!how) return String(value);
      const digits = Number((/\.(\d+)/.exec(how) || [0, 6])[1]);
      if (how.endsWith("%")) return `${(100 * value).toFixed(digits)}%`;
      if (how.endsWith("f")) {
        const text = value.toFixed(digits);
        return Number(text) === 0 ? text.replace("-", "") : text;
      }
      return String(Number(value.toPrecision(digits)));
    });
  }

  function decimals(step) {
    const text = String(step);
    return text.includes(".") ? text.split(".")[1].length : 0;
  }

  const isSwitch = (s) => s.low === 0 && s.high === 1 && s.step === 1;

  function text(s, value) {
    if (isSwitch(s)) return value ? "on" : "off";
    return value.toFixed(decimals(s.step)) + (s.unit ? ` ${s.unit}` : "");
  }

  // ------------------------------------------------------------------ the solver, beside the page

  let compiled;
  async function module() {
    if (!compiled) {
      const packed = window.evcmHighs.wasm, raw = atob(packed), bytes = new Uint8Array(raw.length);
      for (let n = 0; n < raw.length; n++) bytes[n] = raw.charCodeAt(n);
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      compiled = WebAssembly.compile(await new Response(stream).arrayBuffer());
    }
    return compiled;
  }

  // Why this browser cannot compute, or "".
  function missing() {
    if (!window.evcmHighs) return "the book was built without the solver";
    if (typeof WebAssembly !== "object") return "this browser has no WebAssembly";
    if (typeof Worker !== "function" || typeof DecompressionStream !== "function") {
      return "this browser cannot run the solver beside the page";
    }
    return "";
  }

  async function spawn(page, heard) {
    const made = await module();
    const address = URL.createObjectURL(new Blob([window.evcmHighs.worker], { type: "text/javascript" }));
    return new Promise((resolve, reject) => {
      const worker = new Worker(address);
      worker.onerror = (event) => reject(new Error(event.message || "the solver did not start"));
      worker.onmessage = (event) => {
        if (event.data.failed) { reject(new Error(event.data.failed)); return; }
        URL.revokeObjectURL(address);
        worker.onerror = (e) => heard({ failed: e.message || "the solver stopped" });
        worker.onmessage = (e) => heard(e.data);
        resolve(worker);
      };
      worker.postMessage({ module: made, page });
    });
  }

  // ------------------------------------------------------------------ files for the reader

  function toml(page, setting) {
    const lines = page.sliders.map((s) => {
      const value = setting[s.name];
      return `${s.name} = ${Number.isInteger(value) ? value.toFixed(1) : value}`;
    });
    return `page = "${page.name}"\n\n[setting]\n${lines.join("\n")}\n`;
  }

  function notebook(page, setting) {
    const given = page.sliders.map((s) => `    "${s.name}": ${setting[s.name]},`).join("\n");
    const cell = (source) => ({ cell_type: "code", execution_count: null, id: `c${cell.count++}`,
      metadata: {}, outputs: [], source });
    cell.count = 0;
    const cells = page.notebook.map((source) => cell(source.replace("{setting}", `{\n${given}\n}`)));
    const kernel = { kernelspec: { display_name: "Python 3", language: "python", name: "python3" } };
    return JSON.stringify({ cells, metadata: kernel, nbformat: 4, nbformat_minor: 5 }, null, 1);
  }

  function download(name, content, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // ------------------------------------------------------------------ one block

  function live(block) {
    const page = JSON.parse(block.querySelector("script.evcm-live-model").textContent);
    const plot = block.querySelector(".evcm-plot"), said = block.querySelector(".evcm-said");
    const state = block.querySelector(".evcm-live-state"), bill = block.querySelector(".evcm-live-bill");
    const inputs = Object.fromEntries(page.sliders.map((s) =>
      [s.name, block.querySelector(`[data-slider="${s.name}"]`)]));
    const setting = Object.fromEntries(page.sliders.map((s) => [s.name, s.start]));
    const base = JSON.parse(plot.querySelector("script.evcm-spec").textContent).base;
    let worker = null, busy = null, waiting = false, count = 0, clock = 0;

    function tell(what, words) {
      block.dataset.state = what;
      state.textContent = words || "";
      block.toggleAttribute("aria-busy", what === "solving" || what === "loading");
    }

    function read(s) {
      const input = inputs[s.name];
      return isSwitch(s) ? Number(input.checked) : Number(input.value);
    }

    function place(s, value) {
      const input = inputs[s.name];
      if (isSwitch(s)) input.checked = Boolean(value); else input.value = value;
      setting[s.name] = read(s);
      const words = text(s, setting[s.name]);
      input.closest("label").querySelector("output").textContent = words;
      if (!isSwitch(s)) input.setAttribute("aria-valuetext", words);
    }

    function words(found) {
      const out = { ...setting, cost_usd: found.cost, bound_usd: found.bound, gap: found.gap };
      for (const [name, value] of Object.entries(found.parts || {})) {
        out[`${name.replaceAll(" ", "_")}_usd`] = value;
      }
      for (const [name, y] of Object.entries(found.outputs)) if (y.length === 1) out[name] = y[0];
      return out;
    }

    // A trace says in `meta` which output it draws, what divides it, and where it has gaps.
    function draw(found) {
      const spec = structuredClone(base);
      for (const trace of spec.data) {
        const how = trace.meta;
        if (!how || !how.output) continue;
        const scale = (how.times || []).reduce((v, name) => v * setting[name], how.factor || 1) /
          (how.over || []).reduce((v, name) => v * setting[name], 1);
        trace.y = Array.from(found.outputs[how.output], (v, n) =>
          how.shown && !how.shown[n] ? null : v * scale);
      }
      if (plot.evcmDraw) plot.evcmDraw(spec);
    }

    function fill(found) {
      if (!bill || !found.bill) return;
      for (const row of bill.querySelectorAll("tr[data-row]")) {
        const values = found.bill[row.dataset.row] || [];
        row.querySelectorAll("td").forEach((cell, n) => {
          cell.textContent = values[n] === undefined || values[n] === null ? "" : values[n].toFixed(2);
        });
      }
    }

    function explain(found) {
      const list = found.ways.map((way) => {
        const s = page.sliders.find((one) => one.name === way.name);
        return `${s.label} of at ${s.more ? "least" : "most"} ${text(s, way.value)}`;
      });
      const start = "No plan exists at these settings. ";
      if (!list.length) return `${start}No single slider makes one: more than one limit stands in the way.`;
      return `${start}Each of these alone would allow one: ${list.join("; ")}.`;
    }

    function heard(message) {
      if (!busy || (message.id !== undefined && message.id !== busy.id)) return;
      if (message.progress) { busy.stage = `${message.progress}, `; return; }
      clearInterval(clock);
      const asked = busy;
      busy = null;
      if (message.failed) {
        tell("failed", `The solver gave no answer (${message.failed}). The figure shows an earlier setting.`);
      } else if (message.ways) {
        block.evcmAnswer = { setting: asked.setting, ...message };
        said.textContent = explain(message);
        tell("infeasible", "The figure shows the last setting that has a plan.");
      } else {
        block.evcmAnswer = { setting: asked.setting, ...message };
        said.textContent = format(page.said, words(message));
        draw(message);
        fill(message);
        tell("solved", `Solved in this page in ${(message.ms / 1000).toFixed(2)} s.`);
      }
      block.dataset.solved = String(asked.id);
      if (waiting) ask();
    }

    async function ask() {
      if (busy) {
        waiting = true;
        if (worker && performance.now() - busy.begun > CANCEL) {
          worker.terminate();
          worker = null;
          clearInterval(clock);
          busy = null;
        } else {
          // Short solves are waited for; one that turns out long is ended then.
          clearTimeout(busy.timer);
          busy.timer = setTimeout(() => { if (busy && waiting) ask(); }, CANCEL);
          return;
        }
      }
      waiting = false;
      count += 1;
      const mine = { id: count, begun: performance.now(), setting: { ...setting } };
      busy = mine;
      clock = setInterval(() => {
        const spent = performance.now() - mine.begun;
        if (busy === mine && spent > PATIENCE) {
          tell("solving", `Solving: ${mine.stage || ""}${(spent / 1000).toFixed(1)} s`);
        }
      }, 100);
      try {
        if (!worker) {
          const made = await spawn(page, heard);
          if (busy !== mine) { made.terminate(); return; }
          worker = made;
        }
        mine.setting = { ...setting };
        waiting = false;
        worker.postMessage({ id: mine.id, setting: mine.setting });
      } catch (error) {
        clearInterval(clock);
        busy = null;
        none(`the solver did not start: ${error.message}`);
      }
    }

    function none(why) {
      tell("precomputed", `The figure shows the setting computed when the book was built; ${why}.`);
      block.querySelectorAll(".evcm-live-only").forEach((part) => { part.hidden = true; });
    }

    function asked() {
      const query = new URLSearchParams(location.search);
      return query.get("live") === page.name ? query : new URLSearchParams();
    }

    function link() {
      const query = new URLSearchParams({ live: page.name });
      for (const s of page.sliders) query.set(s.name, String(setting[s.name]));
      const address = `${location.href.split(/[?#]/)[0]}?${query}`;
      try { history.replaceState(null, "", address); } catch (_) { /* the text below still serves */ }
      const field = block.querySelector(".evcm-live-link");
      field.hidden = false;
      field.value = address;
      field.select();
      if (navigator.clipboard) navigator.clipboard.writeText(address).catch(() => {});
    }

    const why = missing();
    if (why) { none(why); return; }
    tell("loading", "");
    const query = asked();
    for (const s of page.sliders) {
      const given = Number(query.get(s.name));
      place(s, query.has(s.name) && Number.isFinite(given) ? given : s.start);
      inputs[s.name].addEventListener("input", () => { place(s, read(s)); ask(); });
    }
    block.querySelectorAll(".evcm-live-only").forEach((part) => { part.hidden = false; });
    const tools = {
      link,
      toml: () => download(`${page.name}.toml`, toml(page, setting), "application/toml"),
      notebook: () => download(`${page.name}.ipynb`, notebook(page, setting), "application/x-ipynb+json"),
      reset: () => { page.sliders.forEach((s) => place(s, s.start)); ask(); },
    };
    block.querySelectorAll("button[data-tool]").forEach((button) =>
      button.addEventListener("click", tools[button.dataset.tool]));
    ask();
  }

  function start() {
    if (!document.documentElement.hasAttribute("data-evcm-figures")) { setTimeout(start, 30); return; }
    document.querySelectorAll(".evcm-live").forEach((block) => {
      if (!block.dataset.state) live(block);
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
