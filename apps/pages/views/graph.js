// Which features cause which, and the next token: `graph`. Besides the JSON of the verb: raised: {"LAYER_FEATURE": [{id, token,
// value}]}, effects: {node_id: by how much the first logit would be lower without it, by the graph}.
views.graph = (data, root) => {
  const nodes = new Map(data.nodes.map((node) => [node.node_id, graphNode(data, node)]));
  const incoming = new Map(), outgoing = new Map();
  for (const link of data.links) {
    if (!incoming.has(link.target)) incoming.set(link.target, []);
    if (!outgoing.has(link.source)) outgoing.set(link.source, []);
    incoming.get(link.target).push(link);
    outgoing.get(link.source).push(link);
  }
  const most = Math.max(...[...nodes.values()].map((node) => node.cumulative ?? 0), 0.01);
  let share = most, chosen = null;

  const drawn = h("div"), details = h("section", {class: "panel", "aria-live": "polite", id: "details"}), counted = h("p", {id: "counted"});
  const slider = h("input", {type: "range", min: 0.05, max: most, step: 0.005, value: most, "aria-label": "share of all influence that is shown",
    oninput: () => { share = Number(slider.value); draw(); }});
  let drawing = null;

  const visible = (node) => node.kind === "token" || node.kind === "logit" || node.cumulative <= share + 1e-9;
  function draw() {
    const shown = [...nodes.values()].filter(visible), ids = new Set(shown.map((node) => node.id));
    const links = data.links.filter((link) => ids.has(link.source) && ids.has(link.target));
    if (chosen !== null && !ids.has(chosen)) chosen = null;
    drawing = graphDrawing(data, shown, links, {choose: (id) => { chosen = id; write(); }});
    show(drawn, drawing.element);
    drawing.mark(chosen);
    const features = shown.filter((node) => node.kind === "feature").length;
    show(counted, `${features.toLocaleString("en")} features and ${links.length.toLocaleString("en")} edges are shown, of ${data.counts.features.toLocaleString("en")} active features. `,
      h("b", {}, share1(data.scores.through_errors)), " of what reaches the logits comes through errors, what the transcoders do not explain.");
    write();
  }
  function write() {
    drawing.mark(chosen);
    if (chosen === null) return show(details, h("p", {class: "quiet"}, "Point at a node to see its edges; a click keeps it. Arrow keys move."));
    const node = nodes.get(chosen);
    show(details, h("h2", {}, node.title), graphFacts(data, node), node.kind === "feature" && data.raised[node.key] ? h("p", {}, "Raises ", tokenWords(data.raised[node.key], 6)) : null,
      graphEdges("What it is made of", incoming.get(chosen) ?? [], (link) => nodes.get(link.source), choose),
      graphEdges("What it is a part of", outgoing.get(chosen) ?? [], (link) => nodes.get(link.target), choose));
  }
  function choose(id) {
    if (!visible(nodes.get(id))) { share = Math.max(share, nodes.get(id).cumulative); slider.value = share; }
    chosen = id;
    draw();
  }

  root.append(pageHead("What causes the next token", data.meta),
    h("p", {}, "Circles are features of the MLPs' transcoders, where they are active: layers upwards, tokens from left to right. Squares are errors, what the transcoders leave over. An edge is what a node adds to another one."),
    h("p", {id: "next"}, "Next: ", data.logits.slice(0, 5).map((logit, k) => [k ? ", " : "", h("code", {}, logit.token ?? String(logit.id)), " ", share1(logit.prob)])),
    counted, h("label", {class: "controls"}, "Shown: the nodes with most influence ", slider), drawn, details, graphStrongest(data, choose));
  onTheme(drawn, draw);
  draw();
};

const share1 = (x) => (100 * x).toFixed(1) + "%";

// A node of the JSON with what is shown of it.
function graphNode(data, node) {
  const kind = {"cross layer transcoder": "feature", "mlp reconstruction error": "error", embedding: "token", logit: "logit"}[node.feature_type];
  const token = data.metadata.prompt_tokens[node.ctx_idx], layer = kind === "token" ? -1 : kind === "logit" ? null : Number(node.layer);
  const [, number] = node.node_id.split("_"), logit = kind === "logit" ? data.logits.find((l) => l.id === node.feature) : null;
  const name = kind === "feature" ? `${node.layer}.${number}` : kind === "error" ? `error ${node.layer}` : kind === "token" ? token : logit?.token ?? String(node.feature);
  const title = kind === "feature" ? `Feature ${number} of layer ${node.layer} at ${node.ctx_idx} ${token}` : kind === "error" ? `Error of layer ${node.layer} at ${node.ctx_idx} ${token}`
              : kind === "token" ? `Token ${node.ctx_idx} ${token}` : `Logit ${name}`;
  return {id: node.node_id, key: `${node.layer}_${number}`, kind, layer, position: node.ctx_idx, name, title, activation: node.activation, cumulative: node.influence, prob: node.token_prob};
}

function graphFacts(data, node) {
  const facts = [];
  if (node.kind === "feature") facts.push("activation ", h("b", {}, number(node.activation)));
  if (node.kind === "logit") facts.push("probability ", h("b", {}, share1(node.prob)));
  const effect = data.effects[node.id], known = data.strongest.find((s) => `${s.layer}_${s.feature}_${s.position}` === node.id);
  if (effect !== undefined) facts.push(facts.length ? "; " : "", "without it the first logit would be lower by ", h("b", {}, number(effect)), " by the graph");
  if (known && known.exact !== null) facts.push(", by ", h("b", {}, number(known.exact)), " in the model");
  return h("p", {}, facts);
}

// The edges of a node, the strongest first, with the share that errors have.
function graphEdges(title, links, other, choose) {
  if (!links.length) return null;
  const all = links.reduce((sum, link) => sum + Math.abs(link.weight), 0), rows = [...links].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  const errors = rows.filter((link) => other(link).kind === "error").reduce((sum, link) => sum + Math.abs(link.weight), 0);
  const list = table({label: title, rows, choose: (link) => choose(other(link).id), columns: [
    {title: "node", value: (link) => other(link).title}, {title: "weight", number: true, value: (link) => link.weight},
    {title: "share", number: true, value: (link) => Math.abs(link.weight) / all, cell: (link) => share1(Math.abs(link.weight) / all)}]});
  return h("section", {}, h("h3", {}, `${title}: ${rows.length} edge${rows.length === 1 ? "" : "s"}, ${share1(errors / all)} of it errors`), list.element);
}

function graphStrongest(data, choose) {
  const kept = new Set(data.nodes.map((node) => node.node_id)), id = (s) => `${s.layer}_${s.feature}_${s.position}`;
  const list = table({label: "features with the most influence", rows: data.strongest, choose: (s) => { if (kept.has(id(s))) choose(id(s)); }, columns: [
    {title: "feature", value: (s) => `${s.layer}.${s.feature}`}, {title: "at", value: (s) => `${s.position} ${data.metadata.prompt_tokens[s.position]}`},
    {title: "activation", number: true, value: (s) => s.activation}, {title: "influence", number: true, value: (s) => s.influence},
    {title: "effect", number: true, value: (s) => s.effect}, {title: "exact", number: true, value: (s) => s.exact ?? NaN, cell: (s) => (s.exact === null ? "" : number(s.exact))},
    {title: "raises", value: (s) => s.raised[0]?.token ?? "", cell: (s) => tokenWords(s.raised, 4)}]});
  return h("section", {}, h("h2", {}, "The features with the most influence"),
    h("p", {class: "quiet"}, "effect: how much lower the first logit would be without the feature, by the graph; exact: in the model itself, from which it was taken away."), list.element);
}

// The picture: positions from left to right, layers upwards; nodes of a cell side by side and above each other.
function graphDrawing(data, nodes, links, act) {
  const positions = data.metadata.prompt_tokens.length, layers = Math.max(...nodes.map((node) => node.layer ?? 0)) + 1, step = 15;
  const cells = new Map(), cell = (node) => `${node.kind === "logit" ? layers : node.layer}|${node.position}`;
  for (const node of nodes) cells.set(cell(node), [...(cells.get(cell(node)) ?? []), node]);
  const across = 4, columns = [...Array(positions).keys()].map((p) => Math.max(74, 14 + step * Math.min(across, Math.max(1, ...[...Array(layers + 1).keys()].map((l) => cells.get(`${l}|${p}`)?.length ?? 0)))));
  const heights = [...Array(layers + 2).keys()].map((k) => {
    const deepest = Math.max(1, ...[...Array(positions).keys()].map((p) => cells.get(`${k - 1}|${p}`)?.length ?? 0));
    return k === 0 ? 34 : k === layers + 1 ? 12 + 20 * deepest : 16 + step * Math.ceil(deepest / across);
  });
  const left = 66, lefts = columns.map((_, p) => left + columns.slice(0, p).reduce((a, b) => a + b, 0)), width = left + columns.reduce((a, b) => a + b, 0) + 60;
  const height = heights.reduce((a, b) => a + b, 0) + 8, bottoms = heights.map((_, k) => height - 4 - heights.slice(0, k).reduce((a, b) => a + b, 0));
  const picture = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "nodes, by layer and token; arrow keys move",
    style: `display: block; width: ${width}px; max-width: none`});
  const lines = svg("g"), marks = svg("g"), places = new Map(), elements = new Map();
  for (let l = 0; l < layers; ++l)
    picture.append(svg("line", {x1: left - 8, x2: width, y1: bottoms[l + 1], y2: bottoms[l + 1], stroke: "var(--edge)", "stroke-width": 0.5}), svg("text", {class: "quiet", x: 2, y: bottoms[l + 1] - 8}, `layer ${l}`));
  picture.append(lines, marks);

  for (const list of cells.values()) list.forEach((node, k) => {
    const row = node.kind === "logit" ? layers + 1 : node.layer + 1;
    const wide = node.kind === "token" || node.kind === "logit";
    const x = lefts[node.position] + (wide ? columns[node.position] / 2 : 12 + step * (k % across)), y = bottoms[row] - (wide ? 14 + 20 * k : 14 + step * Math.floor(k / across));
    places.set(node.id, {x, y});
    const shape = node.kind === "feature" ? svg("circle", {cx: x, cy: y, r: 5}) : node.kind === "error" ? svg("rect", {x: x - 4, y: y - 4, width: 8, height: 8})
                : svg("rect", {x: lefts[node.position] + 3, y: y - 9, width: columns[node.position] - 6, height: 18, rx: 4});
    const element = svg("g", {class: "node", role: "button", "aria-label": node.title, "data-node": node.id, tabindex: elements.size ? "-1" : "0"}, shape,
      wide ? svg("text", {x, y: y + 4, "text-anchor": "middle"}, node.name.length > 9 ? node.name.slice(0, 8) + "…" : node.name) : null);
    pressable(element, () => act.choose(kept === node.id ? null : node.id));
    withTip(element, () => node.title + (node.kind === "feature" ? `: ${number(node.activation)}` : ""));
    element.addEventListener("pointerenter", () => light(node.id));
    element.addEventListener("pointerleave", () => light(kept));
    element.addEventListener("focus", () => light(node.id));
    element.addEventListener("keydown", (event) => move(event, node.id));
    elements.set(node.id, element);
    marks.append(element);
  });

  // To the nearest node in that direction.
  function move(event, id) {
    const [dx, dy] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const from = places.get(id);
    let best = null, least = Infinity;
    for (const [other, to] of places) {
      const along = (to.x - from.x) * dx + (to.y - from.y) * dy, aside = Math.abs((to.x - from.x) * dy) + Math.abs((to.y - from.y) * dx);
      if (along <= 0.5 || along + 3 * aside >= least) continue;
      [best, least] = [other, along + 3 * aside];
    }
    if (best === null) return;
    for (const [name, element] of elements) element.setAttribute("tabindex", name === best ? "0" : "-1");
    elements.get(best).focus();
  }

  // Without a node the strongest edges are drawn, with one its own.
  let kept = null;
  const strongest = [...links].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, 150);
  function light(id) {
    const list = id === null ? strongest : links.filter((link) => link.source === id || link.target === id);
    const top = Math.max(...list.map((link) => Math.abs(link.weight)), 1e-9), near = new Set(list.flatMap((link) => [link.source, link.target]));
    show(lines, list.map((link) => {
      const [a, b] = [places.get(link.source), places.get(link.target)], bend = Math.max(12, (a.y - b.y) / 2);
      return svg("path", {class: "link", d: `M${a.x},${a.y - 5} C${a.x},${a.y - bend} ${b.x},${b.y + bend} ${b.x},${b.y + 5}`, fill: "none", "stroke-width": 0.6 + 3.4 * Math.abs(link.weight) / top,
        stroke: `rgb(var(--${link.weight < 0 ? "less" : "more"}))`, opacity: id === null ? 0.45 : 0.9});
    }));
    for (const [name, element] of elements) element.style.opacity = id === null || name === id || near.has(name) ? 1 : 0.3;
  }
  function mark(id) {
    kept = id;
    for (const [name, element] of elements) element.classList.toggle("chosen", name === id);
    light(id);
  }
  return {element: h("div", {class: "scroll tall"}, picture), mark};
}
