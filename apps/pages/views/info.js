// What a model is made of: `info`. Besides the JSON of the verb: before, structures, layers, after (the sites, by kind of
// block) and parts (what they cost), as apps/drawings/model_drawing.h says. Names of a block have L for its layer.
views.info = (data, root) => {
  const count = data.layers.length;
  let layer = 0, chosen = null, drawing = null;
  const drawn = h("div"), details = h("div", {class: "panel", "aria-live": "polite", id: "details"});
  const layers = count < 2 ? null : picker("Layer", data.layers.map((_, k) => String(k)), 0, (k) => { layer = k; draw(); });

  function draw() {
    const shown = infoShown(data, layer), focused = drawn.contains(document.activeElement) ? document.activeElement.dataset.node : null;
    drawing = nodeLink({rows: shown.rows, links: shown.links, label: `the model from its tokens at the bottom to its logits on top, layer ${layer} in full`,
      gap: 20, faint: 0.35, choose});
    if (layers) layers.querySelector("select").selectedIndex = layer;
    show(drawn, drawing.element);
    if (focused) drawn.querySelector(`[data-node="${focused}"]`)?.focus();
    tell();
  }
  function choose(id) {
    const other = id === "below" ? layer - 1 : id === "above" ? layer + 1 : null;
    if (other === null) chosen = id;
    else layer = other;
    other === null ? tell() : draw();
  }
  function tell() {
    const sites = new Map(infoSites(data, layer).map((site) => [site.name, site]));
    if (!sites.has(chosen)) chosen = null;
    drawing.mark(chosen, null);
    show(details, chosen ? infoDetails(data, sites, sites.get(chosen), layer, (id) => { chosen = id; tell(); })
                         : h("p", {class: "quiet"}, "Choose a site: what it is, its shape, how it is computed, and how to get it."));
  }

  show(root, pageHead("What the model is made of", data.meta),
    h("p", {}, `${data.parameters.count.toLocaleString("en")} parameters in ${count} blocks. Every box is a site: a value that can be read and changed. `,
      "The thick line is the residual stream, to which attention and MLP add; dotted lines are copies that are made when they are asked for."),
    layers ? h("div", {class: "controls"}, layers, h("span", {class: "quiet"}, "one block is drawn, the others have the same sites")) : "",
    h("div", {class: "drawing"}, drawn, h("div", {class: "told"}, details)), infoCosts(data), infoFacts(data));
  draw();
};

// ---- the drawing --------------------------------------------------------------------------------
function infoBlock(data, layer) {
  return data.layers.length ? data.structures[data.layers[layer]] : [];
}

function infoSites(data, layer) {
  return [...data.before, ...infoBlock(data, layer), ...data.after];
}

// The name of a site or weight in one layer.
function infoName(name, layer) {
  return name.replace(/^blocks\.L(-\d+)?\./, (_, less) => `blocks.${layer + Number(less ?? 0)}.`);
}

function infoShort(name) {
  return name.replace(/^blocks\.L\./, "").replace(/^attn\./, "").replace("hook_", "").replace("_before_post_norm", " before");
}

function infoIsStream(name) {
  return /\.hook_resid_(pre|mid|post)$/.test(name);
}

// {rows, links} of the model with this layer in full, the blocks below and above it as a box each.
function infoShown(data, layer) {
  const last = data.layers.length - 1, block = infoBlock(data, layer), rows = [], links = [];
  const node = (site, column) => ({id: site.name, name: infoShort(site.name), column, tip: `${infoName(site.name, layer)}\n${site.formula}`});
  const inputs = [...new Set(data.before.flatMap((site) => site.inputs))], blockRows = infoBlockRows(block, node);
  const columns = Math.max(2, ...blockRows.map((row) => row.columns));
  rows.push({name: "inputs", columns, nodes: inputs.map((name, k) => ({id: "input " + name, name: name.replace("rows.", ""), column: k}))});
  rows.push(...infoRows(data.before).map((sites) => ({name: "embedding", columns, nodes: sites.map(node)})));
  const box = (id, from, to) => ({name: "blocks", columns, nodes: [{id, column: 0, name: from === to ? `block ${from}` : `blocks ${from}–${to}`, tip: "the same sites; a press draws the next one"}]});
  if (layer > 0) rows.push(box("below", 0, layer - 1));
  rows.push(...blockRows);
  if (layer < last) rows.push(box("above", layer + 1, last));
  rows.push(...infoRows(data.after).map((sites) => ({name: infoRowName(sites), columns, nodes: sites.map(node)})));
  // What goes on over several rows is said once, at its lowest.
  const names = rows.map((row) => row.name);
  rows.forEach((row, r) => { if (r > 0 && names[r] === names[r - 1]) row.name = ""; });

  // A name of another block is that of the box in which it is.
  const at = (name) => {
    const other = name.match(/^blocks\.(?:L-\d+|(\d+))\./);
    if (!other) return name;
    if (other[1] === undefined) return "below";
    return Number(other[1]) === layer ? name.replace(/^blocks\.\d+\./, "blocks.L.") : Number(other[1]) < layer ? "below" : "above";
  };
  for (const site of infoSites(data, layer)) {
    for (const from of site.from) {
      const stream = infoIsStream(site.name) && (infoIsStream(from) || at(from) === "below");
      links.push({from: at(from), to: site.name, value: stream ? 1 : 0, colour: stream ? "var(--link)" : "var(--edge)", straight: stream, still: true});
    }
    for (const copy of site.copies) links.push({from: copy, to: site.name, value: 0, colour: "var(--edge)", dash: "2 3", still: true});
    if (data.before.includes(site)) for (const input of site.inputs) links.push({from: "input " + input, to: site.name, value: 0, colour: "var(--edge)", still: true});
  }
  if (layer > 0) for (const site of data.before) links.push({from: site.name, to: "below", value: 0, colour: "var(--edge)", still: true});
  if (layer < last && block.length) links.push({from: block.at(-1).name, to: "above", value: 1, colour: "var(--link)", straight: true, still: true});
  return {rows, links};
}

// Sites in rows: each above all that it is computed from.
function infoRows(sites) {
  const known = new Map(sites.map((site) => [site.name, site])), depths = new Map();
  const depth = (site) => {
    if (!depths.has(site)) depths.set(site, 1 + Math.max(-1, ...[...site.from, ...site.copies].filter((name) => known.has(name)).map((name) => depth(known.get(name)))));
    return depths.get(site);
  };
  const rows = [];
  for (const site of sites) (rows[depth(site)] ??= []).push(site);
  return rows.filter((row) => row);
}

// A block: the stream on the left, attention beside it, and the MLP above that, or on its right where both read what
// enters the block.
function infoBlockRows(block, node) {
  const branches = infoBranches(block), rows = infoRows(block);
  const of = (row, branch) => row.filter((site) => branches.get(site.name) === branch);
  const wide = Math.max(0, ...rows.map((row) => of(row, "attention").length));
  const beside = rows.some((row) => of(row, "attention").length && of(row, "MLP").length);
  const columns = 1 + Math.max(0, ...rows.map((row) => Math.max(of(row, "attention").length, (beside && of(row, "MLP").length ? wide : 0) + of(row, "MLP").length)));
  return rows.map((row) => ({name: infoRowName(row), columns, nodes: [
    ...of(row, "stream").map((site) => node(site, 0)), ...of(row, "attention").map((site, k) => node(site, 1 + k)),
    ...of(row, "MLP").map((site, k) => node(site, 1 + (beside ? wide : 0) + k))]}));
}

// Of each site what it is for: the stream, or what attention or the MLP adds to it.
function infoBranches(block) {
  const branches = new Map(), known = new Map(block.map((site) => [site.name, site]));
  const mark = (name, branch) => {
    if (!known.has(name) || branches.has(name)) return;
    branches.set(name, infoIsStream(name) ? "stream" : branch);
    if (!infoIsStream(name)) for (const from of [...known.get(name).from, ...known.get(name).copies]) mark(from, branch);
  };
  mark("blocks.L.hook_attn_out", "attention");
  mark("blocks.L.hook_mlp_out", "MLP");
  for (const site of block) if (!branches.has(site.name)) branches.set(site.name, infoIsStream(site.name) ? "stream" : /ln1|attn|hook_[qkv]_/.test(site.name) ? "attention" : "MLP");
  return branches;
}

function infoRowName(sites) {
  const kind = ({name}) => (infoIsStream(name) ? "stream" : /unembed/.test(name) ? "unembedding" : /(^|\.)ln/.test(name) ? "norm" : /mlp/.test(name) ? "MLP" : "attention");
  return [...new Set(sites.map(kind))].filter((name, _, all) => name !== "stream" || all.length === 1).join(", ");
}

// ---- a site -------------------------------------------------------------------------------------
const kInfoWords = {
  "hook_embed": "what each token is, as a vector", "hook_pos_embed": "where each token stands, as a vector",
  "hook_resid_pre": "the residual stream as it enters the block", "hook_resid_mid": "the stream after attention has added to it", "hook_resid_post": "the stream as it leaves the block",
  "hook_q_input": "the stream as each head's query reads it: a copy for each head, before the norm", "hook_k_input": "the stream as each head's key reads it: a copy for each head, before the norm",
  "hook_v_input": "the stream as each head's value reads it: a copy for each head, before the norm",
  "attn.hook_q": "queries: what each head looks for", "attn.hook_k": "keys: what each token offers to be found by", "attn.hook_v": "values: what each token hands over",
  "attn.hook_rot_q": "queries, turned by their positions", "attn.hook_rot_k": "keys, turned by their positions",
  "attn.hook_q_normed": "queries, each head normed by itself", "attn.hook_k_normed": "keys, each head normed by itself",
  "attn.hook_attn_scores": "how well each query and key match; −∞ where a key may not be seen", "attn.hook_pattern": "where each token looks: weights that add up to 1",
  "attn.hook_z": "what each head gathers: the mean of the values, weighted by its pattern", "attn.hook_result": "what each head writes to the stream",
  "hook_attn_out": "what attention adds to the stream, all heads together", "hook_attn_out_before_post_norm": "what all heads write together, before it is normed",
  "hook_mlp_in": "the stream as the MLP reads it", "mlp.hook_pre": "the neurons before their activation (of a gated MLP: the gate)",
  "mlp.hook_pre_linear": "what the gate lets through", "mlp.hook_post": "the neurons", "hook_mlp_out": "what the MLP adds to the stream",
  "hook_mlp_out_before_post_norm": "what the neurons write together, before it is normed",
  "unembed.hook_in": "what is compared with every word", "unembed.hook_out": "the logits: log-odds of the next token, up to a constant", "unembed.hook_capped": "the logits, capped",
};

function infoWords(name) {
  const own = name.replace(/^blocks\.L\./, "");
  if (kInfoWords[own]) return kInfoWords[own];
  if (own.endsWith("hook_scale")) return "what the norm divides by, a number for each token";
  if (own.endsWith("hook_normalized")) return "the stream divided by its scale, before the gain";
  return own.endsWith("hook_out") ? "what the norm gives: gain and bias included" : "";
}

function infoDetails(data, sites, site, layer, act) {
  const name = infoName(site.name, layer), fact = (title, ...value) => [h("dt", {}, title), h("dd", {}, value)];
  const to = (id) => h("button", {type: "button", onclick: () => act(id)}, infoShort(id));
  const readers = [...sites.values()].filter((other) => other.from.includes(site.name) || other.copies.includes(site.name));
  const near = (list) => (list.length ? h("div", {class: "controls"}, list) : "–");
  const prompt = data.tokenizer && !data.tokenizer.unusable ? ["--prompt", "The capital of Texas is"] : ["--tokens", "1,2,3"];
  const model = data.meta.model === "default" ? [] : ["--model", data.meta.model];
  const command = ["vitrine", "cache", ...model, "--sites", name, ...prompt, "--out", "activations.safetensors"].map(quoted).join(" ");
  const given = prompt[0] === "--prompt" ? `"${prompt[1]}"` : "nn::Tokens{1, 2, 3}";
  const loaded = model.length ? JSON.stringify(model[1]) : "";
  return [h("h3", {}, name), h("p", {}, infoWords(site.name)), h("dl", {class: "fields"},
    fact("shape", site.axes.map((axis, k) => `${axis} ${site.shape[k].toLocaleString("en")}`).join(" × ")),
    fact("formula", h("code", {id: "formula"}, `${infoShort(site.name)} = ${site.formula}`)),
    fact("weights", site.weights.length ? site.weights.map((weight) => h("div", {}, h("code", {}, infoName(weight.name, layer)), ` [${weight.shape.join(", ")}]`)) : "none"),
    fact("ops", site.ops.length ? site.ops.map((op) => h("div", {}, h("b", {}, op.name), ": ", op.doc)) : "none: the same value by another name"),
    fact("made of", near([...site.from.filter((id) => sites.has(id)).map(to), ...site.from.filter((id) => !sites.has(id)).map((id) => h("code", {}, infoName(id, layer))),
                          ...site.copies.map(to), ...site.inputs.map((id) => h("code", {}, id.replace("rows.", "")))])),
    fact("read by", near(readers.map((other) => to(other.name))))),
    h("h4", {}, "From the command line"), h("code", {class: "command block", id: "command"}, command),
    h("h4", {}, "In C++"), h("pre", {class: "scroll", tabindex: "0"}, h("code", {}, `auto m = nn::load_model(${loaded});\nnn::Run r = m.run(${given}, sites("${name}"));\nTensor x = r["${name}"];`))];
}

// ---- what it costs ------------------------------------------------------------------------------
function infoCosts(data) {
  const f = data.forward, parts = (field) => data.parts.filter((part) => part[field] > 0).map((part) => ({name: part.name, value: part[field]}));
  const box = (title, note, items, text) => h("section", {}, h("h3", {}, title), bars(items, {text, label: title}), h("p", {class: "quiet"}, note));
  const tied = data.config.tied ? " The unembedding reads the embedding's." : "";
  return [h("h2", {}, `What it costs, for ${f.tokens.toLocaleString("en")} tokens`), h("div", {class: "row costs"},
    box("Parameters", `${data.parameters.count.toLocaleString("en")} in all.${tied}`, parts("parameters"), (x) => x.toLocaleString("en")),
    box("Bytes of parameters", `${sized(data.parameters.bytes, "B")} in memory.`, parts("bytes"), (x) => sized(x, "B")),
    box("Work", `${sized(f.flops, "FLOP")} in ${f.steps.toLocaleString("en")} steps.`, parts("flops"), (x) => sized(x, "FLOP")),
    box("Memory of a forward pass", "Working memory is used again and again; intermediate values are what it would be without that.", [
      {name: "working memory", value: f.arena_bytes}, {name: "intermediate values", value: f.intermediate_bytes}, {name: "logits", value: f.result_bytes}], (x) => sized(x, "B")))];
}

function infoFacts(data) {
  const value = (x) => (x === null ? "none" : Array.isArray(x) ? x.join(", ") : typeof x === "number" && Number.isInteger(x) ? x.toLocaleString("en") : String(x));
  const list = (fields) => h("dl", {class: "fields"}, Object.entries(fields).map(([name, x]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, value(x))]));
  const tensors = () => table({rows: data.parameters.tensors, label: "weights", columns: [
    {title: "weight", value: (tensor) => tensor.name}, {title: "shape", value: (tensor) => `[${tensor.shape.join(", ")}]`}]}).element;
  return [h("div", {class: "row"}, h("section", {}, h("h2", {}, "Configuration"), list(data.config)),
    h("section", {}, h("h2", {}, "This machine"), list(data.machine))),
    h("h2", {}, "Weights in the files"), unfold(`${data.parameters.tensors.length.toLocaleString("en")} tensors`, tensors)];
}
