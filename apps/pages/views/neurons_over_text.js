// What neurons respond to in a text: `neurons --corpus`. Up to three of them side by side: one that is chosen from the
// list, and those that are kept.
views.neurons_over_text = (data, root) => {
  const name = (n) => `${n.layer}.${n.neuron}`, side = h("div", {class: "side"}), kMost = 3;
  let kept = [], current = null;
  const list = table({
    label: "neurons", rows: data.neurons, choose: (n) => { current = n; draw(); },
    columns: [
      {title: "neuron", value: (n) => -(n.layer * 1e6 + n.neuron), number: true, cell: name},
      {title: "peak", number: true, value: (n) => n.contexts[0]?.activation},
      {title: "active", number: true, value: (n) => n.active, cell: (n) => percent(n.active)},
      {title: "tokens", number: true, value: (n) => n.distinct_tokens, cell: (n) => `${n.distinct_tokens} of ${n.contexts.length}`},
      {title: "predicted", number: true, value: (n) => n.distinct_predicted},
      {title: "at its peaks", value: (n) => peakTokens(n).map(([text]) => text).join(" "), cell: (n) => peakTokens(n).slice(0, 4).map(([text]) => [h("span", {class: "token"}, text), " "])},
    ],
  });
  // The different tokens at the peaks, the most frequent first.
  function peakTokens(n) {
    const counts = new Map();
    for (const c of n.contexts) {
      const text = visible(c.str_tokens?.[c.peak] ?? `#${c.tokens[c.peak]}`);
      counts.set(text, (counts.get(text) ?? 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1]);
  }
  onTheme(side, () => draw());
  function draw() {
    const shown = [...kept, ...(kept.includes(current) ? [] : [current])];
    side.style.setProperty("--columns", shown.length);
    show(side, shown.map(panel));
  }
  function panel(n) {
    const isKept = kept.includes(n), scale = fromZero(n.contexts[0]?.activation ?? 1, "activation");
    const keep = h("button", {type: "button", "aria-pressed": isKept, disabled: !isKept && kept.length >= kMost - 1, onclick: () => {
      kept = isKept ? kept.filter((k) => k !== n) : [...kept, n];
      draw();
      side.querySelector(`[data-neuron="${name(n)}"] button`)?.focus();
    }}, isKept ? "let go" : "keep beside the next");
    return h("section", {class: "panel", "data-neuron": name(n), "aria-label": `neuron ${name(n)}`},
      h("div", {class: "controls"}, h("h2", {}, `Layer ${n.layer}, neuron ${n.neuron}`), keep),
      h("p", {}, `Active at ${percent(n.active)} of the tokens, mean ${number(n.mean)}. At the peaks of its ${n.contexts.length} contexts: `,
        h("b", {}, `${n.distinct_tokens} different token${n.distinct_tokens === 1 ? "" : "s"}`), `, ${n.distinct_predicted} predicted.`),
      h("p", {class: "peaks"}, peakTokens(n).map(([text, count]) => [h("span", {class: "token"}, text), h("span", {class: "quiet"}, ` ${count}  `)])),
      scaleBar(scale), contextLines(n.contexts.map(context), scale), raisedAndLowered(tokenBars(n.raised), tokenBars(n.lowered)));
  }
  function context(c) {
    const texts = c.str_tokens ?? c.tokens.map((id) => `#${id}`);
    return {value: c.activation, texts, values: texts.map((_, k) => (k === c.peak ? c.activation : 0)), peak: c.peak,
            before: c.pos > c.peak, after: false, where: `line ${c.line}`,
            also: h("span", {class: "quiet where"}, " → ", visible(c.predicted.token ?? `#${c.predicted.id}`))};
  }
  root.append(pageHead("What neurons respond to", data.meta),
    h("p", {}, `In ${data.file} (${data.tokens.toLocaleString("en")} tokens). A neuron with many different tokens at its peaks responds to several things: keep it, and choose others to see them side by side. After → what the model predicts there.`),
    h("section", {"aria-label": "neurons", class: "boxed"}, list.element), side);
  list.choose(data.neurons[0]);
};
