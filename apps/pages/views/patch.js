// What carries the answer: `patch`. The JSON of one sweep, or data.sites, one of each. data.predicted, of a sweep of one
// pair: {words: {id: text}, clean, corrupt: [[id, probability]], cells: [[index, [[id, probability]]]], of}, what each run
// says next; a cell without tokens says what the base run says.
views.patch = (data, root) => {
  const sweeps = data.sites ?? [data], body = h("div");
  const draw = (k) => show(body, patchSweep(sweeps[k]));
  root.append(pageHead("What carries the answer", data.meta));
  if (sweeps.length > 1) root.append(choice("Site", sweeps.map((sweep) => sweep.site), 0, draw));
  root.append(body);
  draw(0);
};

const isPosition = (axis) => axis === "pos" || axis === "dest" || axis === "src";

// The axes of a sweep with what stands along them: of positions the tokens too, where all prompts have the same, or of one
// pair what both have.
function sweepAxes(sweep) {
  const pairs = sweep.pairs ?? [sweep];
  const tokens = (pair, which) => pair.str_tokens?.[which].map(visible) ?? pair.tokens[which].map(String);
  const tokenAt = (at) => {
    const [clean, corrupt] = ["clean", "corrupt"].map((which) => pairs.map((pair) => tokens(pair, which).at(at)));
    if (!sweep.pairs) return after(clean[0] === (corrupt[0] ?? clean[0]) ? clean[0] : `${clean[0]} /${after(corrupt[0])}`);
    const all = new Set([...clean, ...corrupt]);
    return all.size === 1 && clean[0] !== undefined ? after(clean[0]) : "";
  };
  const after = (text) => (text.startsWith(" ") ? text : " " + text);
  return sweep.axes.map((name, k) => {
    const labels = name === "layer" ? sweep.layers : sweep.labels?.[k] ?? Array.from({length: sweep.shape[k]}, (_, i) => i);
    return {name, places: labels.map((label) => (isPosition(name) && Number.isInteger(Number(label)) ? label + tokenAt(Number(label)) : String(label)))};
  });
}

// How the sweep was made, and its metric without any edit.
function sweepText(sweep) {
  const base = sweep.direction === "denoise" ? "corrupt" : "clean", other = base === "clean" ? "corrupt" : "clean";
  const put = {patch: `the ${other} run's activations are put in`, zero: "zeros are put in", mean: "the mean over all positions is put in",
               resample: "another pair's activations are put in"}[sweep.action];
  const many = sweep.pairs ? ` Of ${sweep.pairs.length} pairs: means.` : "";
  const ends = sweep.metric.normalised ? `; as fractions, 1 is ${number(sweep.metric.normalised.clean)} and 0 is ${number(sweep.metric.normalised.corrupt)}` : "";
  return [h("p", {}, `Each cell is one run of the ${base} prompt in which ${put}, at ${sweep.site} by ${sweep.by}. Its colour is how much that changes ${sweep.metric.name}.${many}`),
    h("p", {class: "metric"}, h("b", {}, sweep.metric.name), ": clean ", h("b", {class: "number"}, number(sweep.metric.clean)), ", corrupt ",
      h("b", {class: "number"}, number(sweep.metric.corrupt)), ends)];
}

// Both prompts, one below the other; where they differ the tokens are marked.
function bothPrompts(sweep) {
  const texts = (which) => sweep.str_tokens?.[which] ?? sweep.tokens[which].map(String);
  const [clean, corrupt] = [texts("clean"), texts("corrupt")];
  const line = (name, own, others) => h("div", {class: "tokens"}, h("span", {class: "quiet"}, name + " "),
    own.map((text, k) => h("span", {class: text === others[k] ? "token" : "token peak"}, visible(text))));
  return corrupt.length ? [line("clean", clean, corrupt), line("corrupt", corrupt, clean)] : [line("clean", clean, clean)];
}

function patchSweep(sweep) {
  const axes = sweepAxes(sweep), base = sweep.direction === "denoise" ? sweep.metric.corrupt : sweep.metric.clean;
  const values = sweep.mean ?? sweep.values;
  const change = (place) => {
    const x = numberAt(values, place);
    return x === null || x === undefined ? null : sweep.mean ? x : x - base;
  };
  const places = placesOf(axes), all = places.map(change);
  const detail = h("section", {"aria-live": "polite", class: "detail"});
  const describe = (place) => {
    if (!sweep.mean) return `${sweep.metric.name} ${number(numberAt(values, place))}, change ${signed(change(place))}`;
    const error = numberAt(sweep.standard_error, place), count = numberAt(sweep.count, place);
    return `mean change ${signed(change(place))}${error === null ? "" : " ± " + number(error)} over ${count} ${count === 1 ? "pair" : "pairs"}`;
  };
  const map = grid({
    axes, value: change, scale: zeroCentred(all, `change of ${sweep.metric.name}`), label: `change of ${sweep.metric.name}`,
    tip: (place) => placeText(axes, place) + "\n" + describe(place),
    choose: (place) => show(detail, h("h2", {}, placeText(axes, place)), h("p", {}, describe(place)),
                            sweep.pairs ? eachPair(sweep, place) : predictions(sweep, axes, place)),
  });
  const order = all.map((_, k) => k).filter((k) => all[k]).sort((a, b) => Math.abs(all[b]) - Math.abs(all[a])).slice(0, 50);
  const columns = [
    ...axes.map((axis, k) => ({title: axis.name, value: (i) => places[i][k], cell: (i) => axis.places[places[i][k]], number: true})),
    {title: "change", value: (i) => all[i], cell: (i) => signed(all[i]), number: true},
  ];
  if (sweep.mean) columns.push({title: "standard error", value: (i) => numberAt(sweep.standard_error, places[i]), number: true},
                               {title: "pairs", value: (i) => numberAt(sweep.count, places[i]), number: true});
  else columns.push({title: sweep.metric.name, value: (i) => numberAt(values, places[i]), number: true});
  if (order.length) map.choose(places[order[0]]);
  else show(detail, h("p", {}, "No edit changes the metric."));
  return [sweepText(sweep), sweep.pairs ? null : bothPrompts(sweep), h("h2", {}, "Change of the metric"), map.element, detail,
    h("h2", {}, order.length < 50 ? "All places that change it" : "The 50 strongest places"),
    table({label: "the strongest places", columns, rows: order, choose: (i) => map.choose(places[i])}).element];
}

// What each run says next, side by side.
function predictions(sweep, axes, place) {
  const predicted = sweep.predicted;
  if (!predicted) return [];
  const index = place.reduce((sum, k, axis) => sum * sweep.shape[axis] + k, 0);
  const base = sweep.direction === "denoise" ? "corrupt" : "clean";
  const cell = predicted.cells.find(([i]) => i === index);
  const panel = (title, note, list) => h("div", {class: "panel"}, h("h3", {}, title), note ? h("p", {class: "quiet"}, note) : null,
    bars(list.map(([id, share]) => ({name: h("code", {}, predicted.words ? visible(predicted.words[id]) : String(id)), value: share})), {text: probability, label: title, colour: "weight"}));
  const patched = !cell
    ? h("div", {class: "panel"}, h("h3", {}, "patched run"), h("p", {}, `The page has the tokens of the ${predicted.cells.length.toLocaleString("en")} strongest cells of ${predicted.of.toLocaleString("en")}; this is none of them.`))
    : panel("patched run", cell[1] ? null : `the same as the ${base} run`, cell[1] ?? predicted[base]);
  return h("div", {class: "row runs"}, panel("clean run", null, predicted.clean), panel("corrupt run", null, predicted.corrupt), patched);
}

// A cell of many pairs, pair by pair.
function eachPair(sweep, place) {
  const prompt = (pair, which) => (pair.str_tokens ? pair.str_tokens[which].map(visible).join("") : pair.tokens[which].join(" "));
  const value = (pair) => numberAt(pair.values, place), base = sweep.direction === "denoise" ? "corrupt" : "clean";
  return table({label: "each pair", rows: sweep.pairs.filter((pair) => value(pair) !== undefined), columns: [
    {title: "line", value: (pair) => pair.line, number: true},
    {title: "clean", value: (pair) => prompt(pair, "clean"), cell: (pair) => h("code", {style: "white-space: pre"}, prompt(pair, "clean"))},
    {title: "corrupt", value: (pair) => prompt(pair, "corrupt"), cell: (pair) => h("code", {style: "white-space: pre"}, prompt(pair, "corrupt"))},
    {title: "clean run", value: (pair) => pair.metric.clean, number: true},
    {title: "corrupt run", value: (pair) => pair.metric.corrupt, number: true},
    {title: "edited run", value, number: true},
    {title: "change", value: (pair) => value(pair) - pair.metric[base], cell: (pair) => signed(value(pair) - pair.metric[base]), number: true},
  ]}).element;
}
