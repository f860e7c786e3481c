// Builds the program of a page from its affine map and solves it with HiGHS, beside the page.
(function () {
  "use strict";
  const LIMIT_S = 10; // of one solve; the best plan is then shown with the gap that is proven
  let highs, pages;

  // Entries (i, j, k, v) come as differences; put them back, by column and row.
  function unpack(part) {
    if (part === null || typeof part !== "object") return part;
    if (!Array.isArray(part.i) || !Array.isArray(part.k)) {
      for (const name of Object.keys(part)) part[name] = unpack(part[name]);
      return part;
    }
    const sums = Object.fromEntries(["i", "j", "k"].map((name) => {
      let sum = 0;
      return [name, part[name].map((step) => (sum += step))];
    }));
    const order = Array.from(part.v.keys());
    order.sort((a, b) => sums.j[a] - sums.j[b] || sums.i[a] - sums.i[b] || sums.k[a] - sums.k[b]);
    const sorted = (values) => order.map((entry) => values[entry]);
    return { i: sorted(sums.i), j: sorted(sums.j), k: sorted(sums.k), v: sorted(part.v) };
  }

  // ------------------------------------------------------------------ the program of a setting

  function theta(model, setting, vectors) {
    const out = new Float64Array(model.size);
    out[model.constant] = 1;
    for (const p of model.parameters) {
      if (vectors && p.name in vectors) out.set(vectors[p.name], p.at);
      else out[p.at] = p.name.split("*").reduce((v, word) => v * setting[word], 1);
    }
    return out;
  }

  function rowsOf(map, size, t) {
    const out = new Float64Array(size);
    for (let e = 0; e < map.i.length; e++) out[map.i[e]] += map.v[e] * t[map.k[e]];
    return out;
  }

  // A in columns, without the entries that a setting makes zero.
  function columns(model, t) {
    const { i, j, k, v } = model.matrix;
    const starts = new Int32Array(model.columns + 1), indices = [], values = [];
    for (let e = 0; e < i.length;) {
      const row = i[e], column = j[e];
      let sum = 0;
      for (; e < i.length && i[e] === row && j[e] === column; e++) sum += v[e] * t[k[e]];
      if (Math.abs(sum) > 1e-12) { indices.push(row); values.push(sum); starts[column + 1] += 1; }
    }
    for (let c = 0; c < model.columns; c++) starts[c + 1] += starts[c];
    return { format: "csc", numRows: model.rows, numCols: model.columns, starts,
      indices: new Int32Array(indices), values: new Float64Array(values) };
  }

  function bounds(model, which, none) {
    const out = new Float64Array(model.columns).fill(none);
    model[which].at.forEach((column, n) => { out[column] = model[which].v[n]; });
    return out;
  }

  function data(model, t, feasibility) {
    const inf = highs.infinity, upper = rowsOf(model.right, model.rows, t);
    const lower = new Float64Array(model.rows).fill(-inf);
    lower.set(upper.subarray(0, model.equalities));
    const out = {
      numCols: model.columns, numRows: model.rows, sense: highs.constants.objectiveSense.minimize,
      offset: feasibility ? 0 : rowsOf(model.offset, 1, t)[0],
      colCost: feasibility ? new Float64Array(model.columns) : rowsOf(model.cost, model.columns, t),
      colLower: bounds(model, "low", -inf), colUpper: bounds(model, "high", inf),
      rowLower: lower, rowUpper: upper, matrix: columns(model, t),
    };
    if (model.integer.length && feasibility !== "relaxed") {
      out.integrality = new Int32Array(model.columns);
      for (const column of model.integer) out.integrality[column] = 1;
    }
    return out;
  }

  // x and a proven bound, or null where no point exists. Anything else raises.
  function run(model, setting, vectors, feasibility) {
    const t = theta(model, setting, vectors), kinds = highs.constants.modelStatus;
    return highs.withModel(data(model, t, feasibility), (program) => {
      program.options.set({ output_flag: false, mip_rel_gap: model.gap, time_limit: LIMIT_S });
      program.run();
      const status = program.getModelStatus();
      if (status === kinds.infeasible || status === kinds.unboundedOrInfeasible) return null;
      const stopped = status === kinds.timeLimit && program.info.get("primal_solution_status") === 2;
      if (status !== kinds.optimal && !stopped) throw new Error(`HiGHS ended with status ${status}`);
      const value = program.getObjectiveValue();
      const integer = model.integer.length && !feasibility;
      const bound = integer ? Math.min(value, program.info.get("mip_dual_bound")) : value;
      return { x: program.getSolution().colValue, bound, theta: t };
    });
  }

  // ------------------------------------------------------------------ what is shown of a solution

  function outputs(model, found) {
    const shown = {}, { x, theta: t } = found;
    for (const [name, o] of Object.entries(model.outputs)) {
      const y = rowsOf(o.constant, o.size, t), { i, j, k, v } = o.matrix;
      for (let e = 0; e < i.length; e++) y[i[e]] += v[e] * t[k[e]] * x[j[e]];
      shown[name] = y;
    }
    return shown;
  }

  // USD per kWh at a load; at an edge the better neighbour: low for a buyer, high for a seller.
  function priceAt(curve, load, power) {
    const limit = power >= 0 ? load - 1e-6 : load + 1e-6, last = curve.price.length - 1;
    let step = 0;
    while (step < last && curve.edge[step] < limit) step += 1;
    return curve.price[step];
  }

  function payment(part, shown, setting) {
    const load = shown[part.load], power = shown[part.power];
    let sum = 0;
    for (let n = 0; n < load.length; n++) {
      sum += part.weight[n] * 1000 * priceAt(part, load[n], power[n]) * power[n];
    }
    return setting[part.level] * sum;
  }

  function parts(model, shown, setting) {
    const out = {};
    for (const [name, part] of Object.entries(model.parts)) {
      out[name] = part.output ? shown[part.output][0] : payment(part, shown, setting);
    }
    return out;
  }

  const sum = (values) => values.reduce((a, b) => a + b, 0);

  function answer(model, setting, vectors) {
    let best = null, bound = -Infinity;
    for (const attempt of model.attempts) {
      const full = { ...setting, ...attempt };
      const found = run(model, full, vectors);
      if (!found) { if (best) break; return null; }
      if (bound === -Infinity) bound = found.bound;
      const shown = outputs(model, found), paid = parts(model, shown, full);
      const cost = sum(Object.values(paid));
      const turnover = Math.max(1, sum(Object.values(paid).map(Math.abs)));
      const gap = Math.max(0, cost - bound) / turnover;
      if (!best || cost < best.cost) best = { outputs: shown, parts: paid, cost, bound, gap };
      if (best.gap <= model.gap) break;
    }
    return best;
  }

  // ------------------------------------------------------------------ which limit stands in the way

  // For each slider alone, the nearest place on it at which a plan exists.
  function ways(page, setting, exists) {
    const out = [];
    for (const s of page.sliders) {
      if (s.more === null) continue;
      const from = Math.round((setting[s.name] - s.low) / s.step);
      const end = s.more ? Math.round((s.high - s.low) / s.step) : 0;
      const at = (n) => s.low + n * s.step;
      const good = (n) => exists({ ...setting, [s.name]: at(n) });
      if (from === end || !good(end)) continue;
      let no = from, yes = end;
      while (Math.abs(yes - no) > 1) {
        const middle = Math.round((yes + no) / 2);
        if (good(middle)) yes = middle; else no = middle;
      }
      out.push({ name: s.name, value: at(yes) });
    }
    return out;
  }

  // ------------------------------------------------------------------ kinds of pages

  // One program, or one for each value of the slider `by`.
  function single(page, setting) {
    const model = page.by ? page.models[page.choices.indexOf(setting[page.by])] : page.models[0];
    const found = answer(model, setting);
    if (found) return found;
    const exists = (other) => {
      const m = page.by ? page.models[page.choices.indexOf(other[page.by])] : model;
      return run(m, { ...other, ...m.attempts[0] }, undefined, "relaxed") !== null;
    };
    return { ways: ways(page, setting, exists) };
  }

  // Several owners on one price: apart, answers in turn until nobody gains, and one owner of all.
  function market(page, setting, say) {
    const count = setting.aggregators, all = page.joint[count], steps = page.edge.length;
    const names = Array.from({ length: count }, (_, k) => k);
    const zero = page.load.map(() => 0);
    const plus = (one, two) => one.map((v, t) => v + two[t]);
    const others = (plans, k) =>
      names.filter((n) => n !== k).reduce((load, n) => plus(load, plans[n].power), zero);

    // Ends of the price steps for an owner, where the rest of the system takes `load`.
    function ends(owner, load) {
      const { period, step } = page.pairs, low = new Float64Array(step.length), high = low.slice();
      for (let n = 0; n < step.length; n++) {
        const t = period[n], b = step[n];
        const most = page.plugged[owner][t] * setting.cars * setting.charger_kw / 1000;
        const least = -page.fixed.efficiency * setting.v2g * most;
        const from = Math.max(least, b === 0 ? -Infinity : page.edge[b - 1] - load[t]);
        const to = Math.min(most, b === steps - 1 ? Infinity : page.edge[b] - load[t]);
        if (from <= to) { low[n] = from; high[n] = to; }
      }
      return { low, high };
    }

    function energy(power, load) {
      let paid = 0;
      power.forEach((p, t) => { paid += 1000 * priceAt(page, load[t] + p, p) * p; });
      return setting.level * page.period_h * paid;
    }

    function plan(owner, load) {
      const model = page.models[owner], full = { ...setting, ...page.fixed };
      const found = run(model, full, ends(owner, load));
      if (!found) return null;
      const shown = outputs(model, found), power = Array.from(shown.power_mw);
      const wear = shown.wear_usd[0];
      return { power, wear, shown, bound: found.bound, cost: energy(power, load) + wear };
    }

    function bills(powers, wears, total) {
      const load = plus(page.load, total);
      const price = total.map((p, t) => 1000 * setting.level * priceAt(page, load[t], p));
      const each = powers.map((power, k) =>
        wears[k] + page.period_h * sum(power.map((p, t) => price[t] * p)));
      return { total, price, each, wear: wears };
    }

    say("plans made apart");
    const apart = names.map((k) => plan(k, page.load));
    if (apart.some((p) => p === null)) {
      const exists = (other) => names.every((k) => run(page.models[k], { ...other, ...page.fixed },
        ends(k, page.load), "relaxed") !== null);
      return { ways: ways(page, setting, exists) };
    }
    const held = apart.slice(), epsilon = names.map(() => Infinity);
    let still = 0, rounds = 0;
    for (; rounds < page.rounds && still < count; rounds++) {
      say(`answers, round ${rounds + 1}`);
      for (const k of names) {
        if (still >= count) break;
        const load = plus(page.load, others(held, k)), best = plan(k, load);
        const cost = energy(held[k].power, load) + held[k].wear;
        const turnover = Math.max(1, Math.abs(best.cost - best.wear) + best.wear);
        if (cost - best.cost > page.tolerance * turnover) { held[k] = best; still = 1; } else still += 1;
        epsilon[k] = Math.min(cost, energy(held[k].power, load) + held[k].wear) - best.bound;
      }
    }
    if (still < count) {
      say("what each could still gain");
      names.forEach((k) => {
        const load = plus(page.load, others(held, k));
        epsilon[k] = energy(held[k].power, load) + held[k].wear - plan(k, load).bound;
      });
    }
    say("one owner of all cars");
    const joint = plan(all, page.load);
    const regimes = {
      apart: bills(apart.map((p) => p.power), apart.map((p) => p.wear),
        apart.reduce((total, p) => plus(total, p.power), zero)),
      equilibrium: bills(held.map((p) => p.power), held.map((p) => p.wear),
        held.reduce((total, p) => plus(total, p.power), zero)),
      joint: bills(names.map((k) => Array.from(joint.shown[`power_${k}_mw`])),
        names.map((k) => joint.shown[`wear_${k}_usd`][0]), joint.power),
    };
    const shown = { rounds: [rounds], epsilon_usd: [Math.max(0, ...epsilon)] }, bill = {}, paid = {};
    const plans = { apart, equilibrium: held };
    for (const [name, r] of Object.entries(regimes)) {
      shown[`total_${name}`] = r.total;
      shown[`price_${name}`] = r.price;
      shown[`bill_${name}`] = r.each;
      shown[`wear_${name}`] = r.wear;
      paid[name] = sum(r.each);
      const blank = page.sliders.find((s) => s.name === "aggregators").high - count;
      bill[name] = [...r.each, ...Array(blank).fill(null), paid[name]];
      (plans[name] || []).forEach((p, k) => { shown[`power_${name}_${k}`] = p.power; });
    }
    apart.forEach((p, k) => { shown[`expected_${k}_usd`] = [p.cost]; });
    const gap = Math.max(0, paid.joint - joint.bound) / Math.max(1, Math.abs(paid.joint));
    return { outputs: shown, parts: paid, cost: paid.joint, bound: joint.bound, gap, bill };
  }

  const kinds = { single, market };

  async function start(message) {
    pages = { ...message.page, models: message.page.models.map(unpack) };
    highs = await Module({
      instantiateWasm(imports, done) {
        WebAssembly.instantiate(message.module, imports).then((made) => done(made, message.module));
        return {};
      },
    });
    self.postMessage({ ready: true });
  }

  self.onmessage = async (event) => {
    const message = event.data;
    try {
      if (message.module) { await start(message); return; }
      const begun = performance.now();
      const say = (progress) => self.postMessage({ id: message.id, progress });
      const found = kinds[pages.kind](pages, message.setting, say);
      self.postMessage({ id: message.id, ms: performance.now() - begun, ...found });
    } catch (error) {
      self.postMessage({ id: message.id, failed: String((error && error.message) || error) });
    }
  };
})();
