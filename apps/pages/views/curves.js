// Training curves: `curves`. data.runs: [{name, quantities: [{name, first, last, best, ...}]}]; data.points[run][quantity]:
// [step, value, step, value, ...]. A drawing for each quantity with the curves of all runs.
views.curves = (data, root) => {
  const names = [...new Set(data.runs.flatMap((run) => run.quantities.map((q) => q.name)))];
  const hidden = new Set();
  let [logX, logY] = [false, false];
  const drawings = h("div", {class: "drawings"});
  const colour = (k) => `var(--curve-${k % 6})`, dash = (k) => ["", "6 3", "2 3"][Math.floor(k / 6) % 3];

  function draw() {
    show(drawings, names.map((name) => {
      const series = data.runs.map((run, k) => ({name: run.name, points: pairs(data.points[k][name] ?? []), colour: colour(k), dash: dash(k), k}))
        .filter((s) => s.points.length && !hidden.has(s.k));
      if (!series.length) return null;
      return h("section", {"data-quantity": name}, h("h2", {}, name.replaceAll("_", " ")), plot({series, x: "step", y: "", logX, logY, cursor: true, legend: false, width: 560, height: 280,
        label: `${name} over steps, of ${series.map((s) => s.name).join(", ")}`}), logY && series.every((s) => s.points.every(([, y]) => y <= 0)) ? h("p", {class: "quiet"}, "Nothing above 0 to be drawn on a logarithmic scale.") : null);
    }));
  }
  const runs = h("div", {class: "controls", role: "group", "aria-label": "runs"}, data.runs.map((run, k) => h("button", {type: "button", class: "run", "aria-pressed": "true", "data-run": k, onclick: (event) => {
    hidden.has(k) ? hidden.delete(k) : hidden.add(k);
    event.currentTarget.setAttribute("aria-pressed", !hidden.has(k));
    draw();
  }}, svg("svg", {width: 28, height: 10, "aria-hidden": "true"}, svg("line", {x1: 0, x2: 28, y1: 5, y2: 5, "stroke-width": 3, "stroke-dasharray": dash(k) || null, style: `stroke: ${colour(k)}`})), run.name)));
  const rows = data.runs.flatMap((run) => run.quantities.map((q) => ({run: run.name, ...q})));
  const summary = table({label: "first, last and best", rows, columns: [
    {title: "run", value: (r) => r.run},
    {title: "quantity", value: (r) => r.name},
    {title: "first", number: true, value: (r) => r.first}, {title: "last", number: true, value: (r) => r.last},
    {title: "best", number: true, value: (r) => r.best}, {title: "at step", number: true, value: (r) => r.best_step, cell: (r) => (r.best_step === null ? "–" : r.best_step.toLocaleString("en"))},
    {title: "least", number: true, value: (r) => r.least}, {title: "most", number: true, value: (r) => r.most}]});
  const thinned = data.thinned ? ` Curves of over ${data.thinned.toLocaleString("en")} points are drawn by the least and the largest of each stretch.` : "";
  root.append(pageHead("Training curves", data.meta),
    h("p", {}, "A press on a run hides it. Point at a drawing, or move over it with the arrow keys, to read its values." + thinned), runs,
    h("div", {class: "controls"}, switchFor("logarithmic steps", (on) => { logX = on; draw(); }), switchFor("logarithmic values", (on) => { logY = on; draw(); })),
    drawings, h("h2", {}, "First, last and best"), summary.element);
  draw();

  function switchFor(label, act) {
    return h("label", {}, h("input", {type: "checkbox", onchange: (event) => act(event.currentTarget.checked)}), label);
  }
};
