// Which edges do the work: `circuit`. Besides the JSON of the verb: rows: [{name, nodes}], who writes and reads, from
// below; receivers: [NAME], and of each its ends: [[node]], the nodes that read it (key and value heads that several heads
// share: all of these); inside: [[node, node]], where what one node reads others write; ranked: [[sender, receiver, score,
// size]], the strongest edges, each with the number of strongest edges from which on it is a part of a circuit that is
// pruned (null: of none of them); score_sum, the sum of all |score|; compared_edges: for each of compared [[sender,
// receiver, score]]. Senders and receivers are indices.
views.circuit = (data, root) => {
  const edges = circuitEdges(data), scored = data.ranked.length > 0;
  const sizes = circuitSizes(data), curve = data.curves[0] ?? null;
  const modes = ["the circuit", ...(scored ? ["the strongest edges"] : []), ...data.compared.map((other) => "beside " + circuitFile(other.file))];
  const beside = () => mode - (scored ? 2 : 1);  // the other circuit's number, or below 0
  let mode = data.compared.length ? modes.length - data.compared.length : 0;
  let size = sizes.reduce((best, n) => (Math.abs(n - data.asked) < Math.abs(best - data.asked) ? n : best), sizes[0] ?? 0);
  let chosen = null, hidden = new Set(), drawing = null, list = null;

  // What is shown: [{edge, group}], the group being that of a comparison.
  function shown() {
    if (beside() >= 0) return circuitOverlay(edges, beside()).filter((item) => !hidden.has(item.group.key));
    if (mode === 1 && scored) return edges.filter((edge) => edge.size !== null && edge.size <= size).map((edge) => ({edge}));
    return edges.filter((edge) => edge.here).map((edge) => ({edge}));
  }

  const drawn = h("div"), details = h("div", {class: "panel", "aria-live": "polite", id: "details"}), table = h("div"), legend = h("div", {class: "controls legend"});
  const counted = h("p", {id: "left-out"}), judged = h("p", {id: "judged"}), curveBox = h("div");
  const sliderText = h("output", {class: "number"});
  const slider = h("input", {type: "range", min: 0, max: Math.max(0, sizes.length - 1), value: sizes.indexOf(size), "aria-label": "how many of the strongest edges",
    oninput: () => { size = sizes[slider.value]; setMode(1); }});
  let waiting = false;
  const mostSized = data.ranked.length < data.of ? ` The slider reaches the ${data.ranked.length.toLocaleString("en")} strongest.` : "";
  const modeButtons = choice("Show", modes, mode, (k) => { if (k !== mode) setMode(k); });

  function setMode(k) {
    mode = k;
    [...modeButtons.querySelectorAll("button")].forEach((button, i) => button.setAttribute("aria-pressed", i === k));
    // A slider that is dragged moves faster than a large circuit is drawn.
    if (!waiting) requestAnimationFrame(() => { waiting = false; draw(); });
    waiting = true;
  }
  function draw() {
    const items = shown();
    if (chosen && !stillThere(items)) chosen = null;
    const senders = new Set(items.map(({edge}) => edge.from)), nodes = new Set([...senders, ...items.flatMap(({edge}) => circuitEnds(edge, senders))]);
    const inside = data.inside.filter(([from, to]) => nodes.has(from) && nodes.has(to));
    const rows = circuitRows(data, nodes);
    const links = items.flatMap((item) => circuitLinks(item, circuitEnds(item.edge, senders))).sort((a, b) => Math.abs(a.value) - Math.abs(b.value));
    const place = drawn.firstElementChild ? [drawn.firstElementChild.scrollLeft, drawn.firstElementChild.scrollTop] : [0, 0];
    drawing = nodeLink({rows, links: [...inside.map(([from, to]) => ({from, to, value: 0, colour: "var(--edge)", still: true})), ...links],
      label: "edges from the embedding at the bottom to the logits on top", most: 13, gap: rows.length > 16 ? 34 : 52,
      choose: (id) => choose(id === null ? null : {node: id}), chooseLink: (link) => choose({edge: link.of})});
    drawing.element.classList.add("tall");
    drawing.links = links;
    show(drawn, items.length ? drawing.element : h("p", {}, "No edge: nothing leads from the embedding to the logits."));
    [drawing.element.scrollLeft, drawing.element.scrollTop] = place;
    const names = new Map(items.map(({edge, group}) => [edge, group ? circuitGroupName(data, group, beside()) : ""]));
    list = circuitTable(items.map((item) => item.edge), "the edges that are shown", (edge) => choose({edge}, true),
                        beside() < 0 ? [] : [{title: "is", value: (edge) => names.get(edge)}]);
    show(table, list.element);
    write(items);
    if (chosen?.edge) list.choose(chosen.edge);
    else mark();
  }
  function stillThere(items) {
    return items.some(({edge}) => edge === chosen.edge || edge.from === chosen.node || edge.nodes.includes(chosen.node));
  }
  function choose(what, fromTable = false) {
    if (what?.edge && !fromTable) return list.choose(what.edge);  // which comes back
    chosen = what;
    mark();
  }
  function mark() {
    drawing.mark(chosen?.node ?? null, chosen?.edge ? drawing.links.find((link) => link.of === chosen.edge) ?? null : null);
    show(details, circuitDetails(data, chosen, shown(), (edge) => choose({edge})));
  }

  // What is shown, and what is not, in words.
  function write(items) {
    const strongest = mode === 1 && scored ? size : null;
    show(legend, beside() < 0 ? circuitLegend(items) : circuitOverlayLegend(data, circuitOverlay(edges, beside()), beside(), hidden, draw));
    show(counted, circuitLeftOut(data, items, strongest ?? (mode === 0 ? data.asked : items.length)), strongest === null ? "" : mostSized);
    sliderText.textContent = scored ? `the ${size.toLocaleString("en")} strongest: |score| of at least ${number(Math.abs(data.ranked[size - 1][2]))}` : "";
    slider.setAttribute("aria-valuetext", sliderText.textContent);
    show(judged, circuitJudged(data, strongest, beside()));
    if (curve) show(curveBox, circuitCurve(data, strongest, (at) => { size = sizes[at]; slider.value = at; setMode(1); }, sizes));
  }

  show(root, pageHead("Which edges do the work", data.meta),
    h("p", {}, `An edge is what one part's output adds to the input of a later one. ${data.of.toLocaleString("en")} there are; these were found by ${data.by}. `,
      circuitScoreMeans(data)),
    h("div", {class: "row"}, circuitMetric(data), circuitPrompts(data)),
    h("h2", {}, "The circuit"), modes.length > 1 ? modeButtons : "",
    h("div", {class: "stay"}, scored ? h("label", {class: "controls"}, slider, sliderText) : "", counted, judged),
    legend, h("div", {class: "drawing"}, drawn, h("div", {class: "told"}, details, curve ? [h("h3", {}, "Faithfulness over sizes"), curveBox] : "")),
    h("h2", {}, "Edges shown"), table, circuitTables(data));
  draw();
};

// ---- edges --------------------------------------------------------------------------------------
const kCircuitKinds = {q: {name: "into a query", dash: "9 4", at: 0.2}, k: {name: "into a key", dash: "2 3", at: 0.5},
                       v: {name: "into a value", dash: null, at: 0.8}, "": {name: "into an MLP or the logits", dash: "12 3 2 3", at: 0.5}};

// All edges that the page knows: {from, to, nodes, kind, score, rank, size, worth, here, others}.
function circuitEdges(data) {
  const known = new Map(), ends = new Map(data.receivers.map((name, v) => [name, data.ends[v]]));
  const edge = (from, to) => {
    const key = from + "->" + to, kind = to.match(/<([qkv])>$/)?.[1] ?? "";
    if (!known.has(key)) known.set(key, {from, to, nodes: ends.get(to), kind, score: null, rank: null, size: null, worth: null, here: false, others: []});
    return known.get(key);
  };
  const named = ([u, v]) => edge(data.senders[u], data.receivers[v]);
  data.ranked.forEach((entry, k) => Object.assign(named(entry), {score: entry[2], rank: k + 1, size: entry[3]}));
  for (const {from, to, score, worth} of data.edges) Object.assign(edge(from, to), {score, worth, here: true});
  data.compared_edges.forEach((list, k) => list.forEach((entry) => {
    const one = named(entry);
    one.others.push(k);
    one.score = one.score ?? entry[2];
  }));
  return [...known.values()].sort((a, b) => Math.abs(b.score ?? 0) - Math.abs(a.score ?? 0));
}

// Heads stand in the column of their number, MLPs on the right of them; rows without a node are left out.
function circuitRows(data, nodes) {
  const isHeads = (ids) => /^a\d+\.h/.test(ids[0]), heads = Math.max(1, ...data.rows.map((row) => (isHeads(row.nodes) ? row.nodes.length : 0)));
  return data.rows.map(({name, nodes: ids}, r) => {
    const beside = ids.length === 1 && !isHeads(ids) && r > 0 && r < data.rows.length - 1;
    return {name, columns: beside || isHeads(ids) ? heads + 1 : null,
            nodes: ids.map((id, k) => ({id, name: id, tip: circuitNode(id), column: beside ? heads : k})).filter((node) => nodes.has(node.id))};
  }).filter((row) => row.nodes.length);
}

// The sizes that the slider stops at: those of the curve, of the circuit, and more between them.
function circuitSizes(data) {
  const most = data.ranked.length, sizes = new Set([data.asked, most, ...data.curves.flatMap((curve) => curve.asked)]);
  for (let n = 1; n < most; n = Math.max(n + 1, Math.round(n * 1.06))) sizes.add(n);
  return [...sizes].filter((n) => n >= 1 && n <= most).sort((a, b) => a - b);
}

// Told apart by colour and by dash: edges of both circuits, of this one alone, of the other one alone.
function circuitGroups() {
  return {both: {key: "both", dash: null, colour: "var(--text)"}, here: {key: "here", dash: "9 4", colour: "rgb(var(--more))"},
          there: {key: "there", dash: "2 3", colour: "rgb(var(--less))"}};
}

function circuitGroupName(data, group, other) {
  return {both: "in both", here: "only in this circuit", there: "only in " + circuitFile(data.compared[other].file)}[group.key];
}

function circuitOverlay(edges, other) {
  const groups = circuitGroups();
  return edges.filter((edge) => edge.here || edge.others.includes(other))
    .map((edge) => ({edge, group: !edge.here ? groups.there : edge.others.includes(other) ? groups.both : groups.here}));
}

// The nodes at which an edge is drawn to end: those that go on from there, or all.
function circuitEnds(edge, senders) {
  const on = edge.nodes.filter((node) => senders.has(node));
  return on.length ? on : edge.nodes;
}

function circuitLinks({edge, group}, ends) {
  const kind = kCircuitKinds[edge.kind];
  return ends.map((to) => ({of: edge, from: edge.from, to, value: edge.score ?? 0, at: kind.at, dash: group ? group.dash : kind.dash, colour: group?.colour,
          tip: `${edge.from} → ${edge.to}\nscore ${signed(edge.score)}${edge.worth === null ? "" : "\nworth " + signed(edge.worth)}`}));
}

// ---- legends ------------------------------------------------------------------------------------
const kCircuitEnds = "Edges into a head end at the left (query), in the middle (key), at the right (value).";

function circuitLegend(items) {
  const count = (test) => items.filter(({edge}) => test(edge)).length.toLocaleString("en");
  return [Object.entries(kCircuitKinds).map(([kind, {name, dash}]) => linkSample({dash}, ` ${name}: ${count((edge) => edge.kind === kind)}`)),
          linkSample({colour: "rgb(var(--more))"}, ` score above 0: ${count((edge) => edge.score >= 0)}`),
          linkSample({colour: "rgb(var(--less))"}, ` below 0: ${count((edge) => edge.score < 0)}`),
          h("span", {class: "quiet"}, "Thicker: a larger |score|. ", kCircuitEnds)];
}

// Each group of a comparison, which can be hidden.
function circuitOverlayLegend(data, all, other, hidden, draw) {
  return [Object.values(circuitGroups()).map((group) => h("label", {}, h("input", {type: "checkbox", checked: !hidden.has(group.key), "data-group": group.key,
    onchange: (event) => { event.target.checked ? hidden.delete(group.key) : hidden.add(group.key); draw(); }}),
    linkSample(group, ` ${circuitGroupName(data, group, other)}: ${all.filter((item) => item.group.key === group.key).length.toLocaleString("en")}`))),
          h("span", {class: "quiet"}, kCircuitEnds)];
}

// ---- words --------------------------------------------------------------------------------------
function circuitFile(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

function circuitNode(id) {
  const head = id.match(/^a(\d+)\.h(\d+)$/), mlp = id.match(/^m(\d+)(?:\.(?:f(\d+)|(error)))?$/);
  if (id === "input") return "the embedding";
  if (head) return `head ${head[2]} of layer ${head[1]}`;
  if (mlp && mlp[2]) return `feature ${mlp[2]} of the MLP of layer ${mlp[1]}`;
  if (mlp && mlp[3]) return `what the features leave of the MLP of layer ${mlp[1]}`;
  return mlp ? `the MLP of layer ${mlp[1]}` : `the ${id}`;
}

function circuitEnd(edge) {
  const kinds = {q: "the query of ", k: "the key of ", v: "the value of ", "": ""};
  const of = edge.nodes.map(circuitNode).join(", ");
  return kinds[edge.kind] + of;
}

function circuitScoreMeans(data) {
  if (!data.scored_by) return "";
  if (data.scored_by === "acdc") return `The score of an edge: how much ${data.metric.name} changed when it was cut.`;
  return data.direction === "denoise" ? `The score of an edge: what it restores of ${data.metric.name}, by itself, when it carries the clean run in the corrupt one.`
    : `The score of an edge: how it changes ${data.metric.name}, by itself, when it carries the corrupt run in the clean one.`;
}

// Of `taken` edges those are shown that lead from the embedding to the logits.
function circuitLeftOut(data, items, taken) {
  const n = (x) => x.toLocaleString("en"), rest = data.of - items.length, loose = taken - items.length;
  const sum = items.reduce((total, {edge}) => total + Math.abs(edge.score ?? 0), 0);
  const carries = data.score_sum > 0 && items.every(({edge}) => edge.score !== null)
    ? ` together carry ${percent(Math.max(0, 1 - sum / data.score_sum))} of the sum of all |score|.` : " carry the corrupt run; they have no score here.";
  return [h("b", {}, `${n(items.length)} of ${n(data.of)} edges shown;`), ` the other ${n(rest)}`, rest ? carries : ".",
          loose > 0 ? ` ${n(loose)} more were taken and lead nowhere or come from nowhere.` : ""];
}

function circuitJudged(data, size, other) {
  const way = (x) => h("b", {}, percent(x));
  const curve = data.curves[0];
  if (size === null) {
    const more = other >= 0 ? [`; ${circuitFile(data.compared[other].file)} `, way(data.compared[other].faithfulness)] : [];
    return ["By itself this circuit goes ", way(data.circuit.faithfulness), " of the way from the corrupt run to the clean one", more, "; all other edges carry the corrupt run."];
  }
  if (!curve) return "How faithful so many edges are was not measured.";
  const at = curve.asked.findIndex((n) => n >= size), last = curve.asked.length - 1;
  const measured = (k) => [way(curve.faithfulness[k]), ` of the way with ${curve.asked[k].toLocaleString("en")}`];
  if (curve.asked[at] === size) return ["Measured: ", measured(at), "."];
  if (at === 0) return ["The least that was measured: ", measured(0), "."];
  return ["Measured: ", measured(at - 1), ", ", measured(at < 0 ? last : at), "; between them the marker is on a straight line."];
}

// ---- beside the drawing ---------------------------------------------------------------------------
function circuitTable(list, label, act, more = []) {
  const worth = list.some((edge) => edge.worth !== null);
  return table({rows: list, label, choose: act, columns: [
    {title: "from", value: (edge) => edge.from}, {title: "to", value: (edge) => edge.to},
    {title: "score", number: true, value: (edge) => edge.score, cell: (edge) => signed(edge.score)},
    {title: "|score|", number: true, value: (edge) => (edge.score === null ? null : Math.abs(edge.score))},
    ...(worth ? [{title: "worth", number: true, value: (edge) => edge.worth, cell: (edge) => signed(edge.worth)}] : []), ...more]});
}

function circuitDetails(data, chosen, items, act) {
  if (!chosen) return h("p", {class: "quiet"}, "Choose a node for its edges, or an edge for its numbers.");
  const fact = (name, ...value) => [h("dt", {}, name), h("dd", {}, value)];
  if (chosen.edge) {
    const edge = chosen.edge, files = edge.others.map((k) => circuitFile(data.compared[k].file));
    const inside = [edge.here ? "this circuit" : null, ...files].filter((name) => name !== null);
    return [h("h3", {}, `${edge.from} → ${edge.to}`), h("dl", {class: "fields"},
      fact("from", circuitNode(edge.from)), fact("to", circuitEnd(edge)), fact("score", signed(edge.score)),
      edge.rank ? fact("rank", `${edge.rank.toLocaleString("en")} of ${data.of.toLocaleString("en")} by |score|`) : "",
      fact("worth", edge.worth === null ? "not measured (--worth)" : `${signed(edge.worth)}: what the circuit loses of ${data.metric.name} without it`),
      fact("in", inside.join(", ") || "no circuit that is compared"))];
  }
  const into = items.map((item) => item.edge).filter((edge) => edge.nodes.includes(chosen.node)), out = items.map((item) => item.edge).filter((edge) => edge.from === chosen.node);
  const part = (title, list) => (list.length ? [h("h4", {}, `${title}: ${list.length.toLocaleString("en")}`), circuitTable(list, title, act).element] : "");
  return [h("h3", {}, chosen.node), h("p", {class: "quiet"}, circuitNode(chosen.node)), part("edges into it", into), part("edges out of it", out)];
}

// Over the number of edges; the marker is where the slider is, or the circuit.
function circuitCurve(data, size, act, sizes) {
  const log = (x) => Math.log(Math.max(1, x));
  const points = (curve) => curve.asked.map((n, k) => [n, curve.faithfulness[k]]).filter(([n]) => n > 0);
  const first = points(data.curves[0]);
  const y = size === null ? data.circuit.faithfulness : (() => {
    if (size <= first[0][0]) return first[0][1];
    const k = first.findIndex(([n]) => n >= size), [a, b] = [first[k - 1], first[k] ?? first[k - 1]];
    return b[0] === a[0] ? a[1] : a[1] + (b[1] - a[1]) * (log(size) - log(a[0])) / (log(b[0]) - log(a[0]));
  })();
  const random = data.random ? [{name: `random circuits: ${percent(data.random.mean)} ± ${percent(data.random.deviation)}`, dots: true, colour: "var(--quiet)", points: data.random.values.map((x) => [data.asked, x])}] : [];
  const kColours = ["rgb(var(--less))", "rgb(var(--more))"];
  const figure = plot({x: "edges", y: "faithfulness", logX: true, height: 260, width: 400, label: "faithfulness over the number of edges",
    series: [...data.curves.map((curve, k) => ({name: curve.rank, colour: kColours[k], points: points(curve)})), ...random,
             {name: size === null ? "the circuit" : `${size.toLocaleString("en")} edges`, dots: true, colour: "var(--text)", points: [[size ?? data.asked, y]]}],
    tip: (series, [n, way]) => `${series.name}\n${n.toLocaleString("en")} edges\n${percent(way)} of the way`});
  const marker = [...figure.querySelectorAll("circle")].at(-1);
  marker.setAttribute("r", 7);
  marker.setAttribute("id", "marker");
  const areas = data.curves.map((curve) => `${curve.rank}: CPR ${number(curve.cpr)}, CMD ${number(curve.cmd)}`);
  const buttons = first.map(([n]) => n).filter((n) => sizes.includes(n));
  return [figure, h("div", {class: "controls"}, h("span", {class: "quiet"}, "measured at"), buttons.map((n) =>
    h("button", {type: "button", "aria-pressed": n === size, onclick: () => act(sizes.indexOf(n))}, n.toLocaleString("en")))),
    h("p", {class: "quiet"}, areas.join("; "), ".")];
}

// ---- below and above ------------------------------------------------------------------------------
function circuitMetric(data) {
  const of = (x) => (typeof x === "number" ? x : x.mean);
  const items = [{name: "clean run", value: of(data.metric.clean)}, {name: "the circuit alone", value: data.circuit.metric},
                 {name: "all but the circuit", value: data.complement.metric}, {name: "corrupt run", value: of(data.metric.corrupt)}];
  const random = data.random ? ` ${data.random.count} random circuits of as many edges: ${percent(data.random.mean)} ± ${percent(data.random.deviation)} (mean, standard deviation).` : "";
  return h("section", {id: "metric"}, h("h2", {}, data.metric.name), bars(items, {label: data.metric.name}),
    h("p", {}, "Of the way from the corrupt run to the clean one: the circuit alone ", h("b", {}, percent(data.circuit.faithfulness)), ", all but the circuit ",
      h("b", {}, percent(data.complement.faithfulness)), " (0% where nothing else does its work).", random));
}

function circuitPrompts(data) {
  const text = (pair) => (pair.str_tokens ?? pair.tokens.map(String)).map(visible);
  if (data.pairs.length === 1) {
    return h("section", {}, h("h2", {}, "The clean prompt"), h("p", {class: "tokens"}, text(data.pairs[0]).map((token) => h("span", {class: "token"}, token))));
  }
  const columns = ["clean", "corrupt", "circuit", "complement"].map((name) => ({title: name === "complement" ? "all but it" : name, number: true, value: (pair) => pair[name]}));
  return h("section", {}, h("h2", {}, `${data.pairs.length.toLocaleString("en")} pairs`), unfold(`${data.metric.name} of each pair`, () =>
    table({rows: data.pairs, label: "pairs", columns: [{title: "clean prompt", value: (pair) => text(pair).join(data.pairs[0].str_tokens ? "" : " ")}, ...columns]}).element));
}

function circuitTables(data) {
  const way = (title, of) => ({title, number: true, value: of, cell: (row) => percent(of(row))});
  const groups = !data.groups.length ? "" : [h("h2", {}, `By ${data.group_by}`), table({rows: data.groups, label: `the circuit in each ${data.group_by}`, columns: [
    {title: data.group_by, value: (group) => group.name}, {title: "pairs", number: true, value: (group) => group.pairs},
    {title: "clean", number: true, value: (group) => group.clean}, {title: "corrupt", number: true, value: (group) => group.corrupt},
    way("faithful", (group) => group.faithfulness), way("without it", (group) => group.completeness),
    ...(data.groups[0].random ? [{title: "random circuits", number: true, value: (group) => group.random.mean,
                                  cell: (group) => `${percent(group.random.mean)} ± ${percent(group.random.deviation)}`}] : []),
    ...data.compared.map((other, k) => way(circuitFile(other.file), (group) => group.compared[k].faithfulness))]}).element];
  const compared = !data.compared.length ? "" : [h("h2", {}, "Compared with"), table({rows: data.compared, label: "other circuits", columns: [
    {title: "file", value: (other) => other.file}, {title: "edges", number: true, value: (other) => other.edges}, {title: "shared", number: true, value: (other) => other.shared},
    {title: "Jaccard", number: true, value: (other) => other.jaccard}, {title: "nodes", number: true, value: (other) => other.nodes},
    {title: "shared nodes", number: true, value: (other) => other.shared_nodes}, way("faithful on these pairs", (other) => other.faithfulness),
    way("without it", (other) => other.completeness)]}).element];
  return [groups, compared];
}
