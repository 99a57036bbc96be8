// Which parts wrote the logit: `decompose`. data.inside: of each layer {neurons: [[neuron, share]], count, others: the sum of
// those that are not among them}, the strongest neurons of its MLP.
views.decompose = (data, root) => {
  const answer = tokenName(data.answer) + (data.wrong ? " less " + tokenName(data.wrong) : "");
  const opened = new Set(), order = {names: ["in the model's order", "by size"], chosen: 0}, kind = {names: ["a waterfall", "bars from zero"], chosen: 0};
  const tree = h("div", {class: "tree"}), total = h("p", {class: "sum"});
  const parts = partsOf(data);

  function rows(list, level, start) {
    const sorted = order.chosen === 0 ? list : [...list].sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    let from = start;
    return sorted.flatMap((part) => {
      const begin = from;
      from += part.value;
      const own = {
        name: part.name, value: part.value, level, from: kind.chosen === 0 ? begin : 0,
        tip: `${part.tip ?? part.name}\n${signed(part.value)} of ${number(data.logit)}\nfrom ${number(begin)} to ${number(from)}`,
      };
      if (!part.parts) return [own];
      own.open = opened.has(part.id);
      own.choose = () => { if (!opened.delete(part.id)) opened.add(part.id); draw(part.id); };
      return own.open ? [own, ...rows(part.parts, level + 1, begin)] : [own];
    });
  }
  // Draws again; the button that was pressed keeps the focus.
  function draw(pressed = null) {
    const drawn = rows(parts, 0, 0), sum = parts.reduce((all, part) => all + part.value, 0);
    show(tree, bars([...drawn, {name: h("b", {}, "sum"), value: sum, tip: "all parts together"}], {label: `parts of the logit ${answer}`}));
    show(total, "sum of the parts ", h("b", {class: "number"}, number5(sum)), ", logit ", h("b", {class: "number"}, number5(data.logit)),
         `: ${data.closes ? "they agree" : "THEY DIFFER"} (by ${number(Math.abs(data.residual))}, rounding; the shares' sizes add up to ${number(data.magnitude)})`);
    if (pressed === null) return;
    const name = nameOf(parts, pressed);
    [...tree.querySelectorAll("button")].find((button) => button.textContent === name)?.focus();
    say(`${name} ${opened.has(pressed) ? "opened" : "closed"}`);
  }
  root.append(pageHead("Which parts wrote the logit", data.meta),
    h("p", {}, `The logit of ${answer} at `, h("b", {}, tokenLabel(data, data.position)), " is the sum of what each part wrote into the residual stream, with the scale of the final norm held at "
      + number(data.scale) + ". A layer opens into its heads, biases and MLP, an MLP into its neurons."),
    h("div", {class: "tokens"}, data.tokens.map((_, k) => h("span", {class: k === data.position ? "token peak" : "token"}, tokenText(data, k)))),
    choice("Drawn as", kind.names, 0, (k) => { kind.chosen = k; draw(); }), choice("Ordered", order.names, 0, (k) => { order.chosen = k; draw(); }),
    h("div", {class: "controls"}, h("button", {type: "button", onclick: () => { parts.filter((part) => part.parts).forEach((part) => opened.add(part.id)); draw(); }}, "open all layers"),
      h("button", {type: "button", onclick: () => { opened.clear(); draw(); }}, "close all")),
    total, tree, data.stream ? streamUse(data) : null);
  draw();
};

// The parts as a tree: {id, name, tip, value, parts}. A layer is the sum of its components, an MLP of its neurons and bias.
function partsOf(data) {
  const leaf = (c) => ({id: c.name, name: c.name, value: c.value});
  const mlp = (c) => {
    const inside = data.inside?.[c.layer];
    if (!inside) return leaf(c);
    const others = inside.count - inside.neurons.length;
    const neurons = inside.neurons.map(([neuron, value]) => ({id: `L${c.layer}N${neuron}`, name: `L${c.layer}N${neuron}`, tip: `neuron ${neuron} of layer ${c.layer}`, value}));
    const rest = others > 0 ? [{id: c.name + ".rest", name: `the other ${others.toLocaleString("en")} neurons`, value: inside.others}] : [];
    return {...leaf(c), tip: `the MLP of layer ${c.layer}`, parts: [...neurons, ...rest, {id: c.name + ".b_out", name: `${c.layer}_mlp_b_out`, tip: "the MLP's output bias", value: data.layers[c.layer].mlp_b_out}]};
  };
  const tops = [];
  for (const c of data.components) {
    if (c.layer === null) {
      tops.push(leaf(c));
      continue;
    }
    let layer = tops.find((part) => part.id === `layer ${c.layer}`);
    if (!layer) tops.push(layer = {id: `layer ${c.layer}`, name: `layer ${c.layer}`, value: 0, parts: []});
    layer.parts.push(c.kind === "mlp" ? mlp(c) : leaf(c));
    layer.value += c.value;
  }
  return tops;
}

function nameOf(parts, id) {
  for (const part of parts) {
    if (part.id === id) return part.name;
    const inside = part.parts && nameOf(part.parts, id);
    if (inside) return inside;
  }
  return null;
}

// Five digits after the point: sums are compared.
const number5 = (x) => (x < 0 ? "−" : "") + Math.abs(x).toFixed(5);

// Who writes to the stream here and who reads it: `--stream`.
function streamUse(data) {
  const {writers, readers, share, lengths} = data.stream, detail = h("p", {"aria-live": "polite"}, "A click on a cell says it in words.");
  const scale = zeroCentred(share, "share of what is read");
  const percentage = (x) => (x < 0 ? "−" : "") + percent(Math.abs(x));
  const text = (w, r) => `${percentage(share[w][r])} of what ${readers[r]} reads was written by ${writers[w].name}`;
  return h("section", {class: "stream"}, h("h2", {}, "Who writes to the stream here, and who reads it"),
    h("p", {}, "A column is all that a query, key, value or MLP reads at this position; its shares add up to 100%."),
    scaleBar(scale, percentage), detail,
    heatmap({label: "shares: a row for each writer, a column for each reader", values: share, rows: writers.map((w) => w.name), columns: readers, scale,
             cell: 20, tip: text, choose: (w, r) => { detail.textContent = text(w, r); }}).element,
    h("h3", {}, "How long the stream is"),
    plot({series: [{name: "length", points: lengths.map((length, k) => [k, length])}], x: "after", y: "length", height: 220, label: "length of the stream",
          names: lengths.map((_, k) => (k === 0 ? "embedding" : String(k - 1)))}),
    h("h3", {}, "How much each part writes"),
    table({label: "how much each part writes", rows: writers, columns: [{title: "writer", value: (w) => w.name}, {title: "length", value: (w) => w.length, number: true}]}).element);
}
