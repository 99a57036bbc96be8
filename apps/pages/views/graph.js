// Which features cause which, and the next token: `graph`. Besides the JSON of the verb: raised: {"LAYER_FEATURE": [{id, token,
// value}]}, effects: {node_id: by how much the first logit would be lower without it, by the graph}, kept: names of what a saved file has
// besides; with a text contexts: {"LAYER_FEATURE": [{line, pos, value, tokens: [id], values, peak, before, after}]} and words: {id: text}.
views.graph = (packed, root) => {
  const data = unpackGraph(packed), nodes = new Map(data.nodes.map((node) => [node.node_id, graphNode(data, node)]));
  const most = Math.max(...[...nodes.values()].map((node) => node.cumulative ?? 0), 0.01);
  let share = most, chosen = null;

  const drawn = h("div"), details = h("section", {class: "panel", "aria-live": "polite", id: "details"}), counted = h("p", {id: "counted"});
  const slider = h("input", {type: "range", min: 0.05, max: most, step: 0.005, value: most, "aria-label": "share of all influence that is shown",
    oninput: () => { share = Number(slider.value); draw(); }});
  const own = supernodes(data, nodes, {changed: () => draw()});
  let drawing = null, shownNodes = new Map(), shownLinks = [];

  const visible = (node) => node.kind === "token" || node.kind === "logit" || node.cumulative <= share + 1e-9;
  function draw() {
    const shown = [...nodes.values()].filter(visible), ids = new Set(shown.map((node) => node.id));
    const links = data.links.filter((link) => ids.has(link.source) && ids.has(link.target));
    // Members of a supernode are there whatever their influence, so that it is the same node on all shares.
    for (const one of own.list) for (const id of one.nodes) if (!ids.has(id) && nodes.has(id)) { shown.push(nodes.get(id)); ids.add(id); }
    const merged = mergedGraph(shown, data.links.filter((link) => ids.has(link.source) && ids.has(link.target)), own);
    shownNodes = new Map(merged.nodes.map((node) => [node.id, node]));
    shownLinks = merged.links;
    if (chosen !== null && !shownNodes.has(chosen)) chosen = merged.whole.get(chosen) ?? null;
    drawing = graphDrawing(data, merged.nodes, merged.links, {picked: (id) => own.picked.has(id), choose: (id, again) => {
      if (own.picking && nodes.has(id)) return own.toggle(id);
      chosen = again ? null : id;
      write();
    }});
    show(drawn, drawing.element);
    drawing.mark(chosen);
    const features = shown.filter((node) => node.kind === "feature").length;
    show(counted, `${features.toLocaleString("en")} features and ${links.length.toLocaleString("en")} edges are shown, of ${data.counts.features.toLocaleString("en")} active features. `,
      data.scores ? [h("b", {}, share1(data.scores.through_errors)), " of what reaches the logits comes through errors, what the transcoders do not explain."] : null);
    write();
  }
  function write() {
    drawing.mark(chosen);
    if (chosen === null) return show(details, h("p", {class: "quiet"}, "Point at a node to see its edges; a click keeps it. Arrow keys move."));
    const node = shownNodes.get(chosen);
    show(details, h("h2", {}, node.title), node.kind === "supernode" ? h("p", {}, "Its nodes: ", node.members.map((m) => [h("span", {class: "token"}, m.title), " "])) : graphFacts(data, node),
      node.kind === "feature" ? graphMeaning(data, node) : null,
      graphEdges("What it is made of", shownLinks.filter((link) => link.target === chosen), (link) => shownNodes.get(link.source), choose),
      graphEdges("What it is a part of", shownLinks.filter((link) => link.source === chosen), (link) => shownNodes.get(link.target), choose));
  }
  function choose(id) {
    if (nodes.has(id) && !visible(nodes.get(id))) { share = Math.max(share, nodes.get(id).cumulative); slider.value = share; }
    chosen = id;
    draw();
  }

  fill(root, {}, [pageHead("What causes the next token", data.meta),
    h("p", {}, "Circles are features of the MLPs' transcoders, where they are active: layers upwards, tokens from left to right. Squares are errors, what the transcoders leave over. An edge is what a node adds to another one."),
    h("p", {id: "next"}, "Next: ", data.logits.slice(0, 5).map((logit, k) => [k ? ", " : "", h("code", {}, logit.token ?? String(logit.id)), " ", share1(logit.prob)])),
    counted, h("label", {class: "controls"}, "Shown: the nodes with most influence ", slider), drawn, details, own.element, attentionSection(data, choose), graphStrongest(data, choose)]);
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
  return {id: node.node_id, key: `${node.layer}_${number}`, kind, layer, position: node.ctx_idx, name, title, label: kind === "feature" ? node.clerp : "", activation: node.activation, cumulative: node.influence, prob: node.token_prob};
}

// What a feature raises, and where in a text it is strongest, as far as it is known.
function graphMeaning(data, node) {
  const raised = data.raised?.[node.key], contexts = data.contexts?.[node.key];
  return [raised ? h("p", {}, "Raises ", tokenWords(raised, 6)) : null, contexts?.length ? h("section", {id: "contexts"}, h("h3", {}, "Where it is strongest in the text"),
    contextLines(contexts.map(graphContext), fromZero(contexts[0].value))) : null];

  function graphContext(c) {
    return {value: c.value, texts: c.tokens.map((id) => data.words[id] ?? `#${id}`), values: c.values, peak: c.peak, before: c.before, after: c.after, where: `line ${c.line}, token ${c.pos}`};
  }
}

function graphFacts(data, node) {
  const facts = [];
  if (node.label) facts.push(h("i", {}, node.label), "; ");
  if (node.kind === "feature") facts.push("activation ", h("b", {}, number(node.activation)));
  if (node.kind === "logit") facts.push("probability ", h("b", {}, share1(node.prob)));
  const effect = data.effects?.[node.id], known = data.strongest.find((s) => `${s.layer}_${s.feature}_${s.position}` === node.id);
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
    {title: "activation", number: true, value: (s) => s.activation}, {title: "influence", number: true, value: (s) => s.influence ?? NaN},
    {title: "effect", number: true, value: (s) => s.effect}, {title: "exact", number: true, value: (s) => s.exact ?? NaN, cell: (s) => (s.exact === null ? "" : number(s.exact))},
    {title: "raises", value: (s) => s.raised[0]?.token ?? "", cell: (s) => tokenWords(s.raised, 4)}]});
  return h("section", {}, h("h2", {}, "The features with the most influence"),
    h("p", {class: "quiet"}, "effect: how much lower the first logit would be without the feature, by the graph; exact: in the model itself, from which it was taken away."), list.element);
}
