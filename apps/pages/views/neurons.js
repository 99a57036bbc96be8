// The strongest neurons at one position of a prompt: `neurons --prompt`.
views.neurons = (data, root) => {
  const effects = data.neurons.some((n) => n.effect !== null), detail = h("section", {"aria-label": "the chosen neuron"});
  const list = table({
    label: "neurons", rows: data.neurons, choose: (n) => look(n),
    columns: [
      {title: "layer", number: true, value: (n) => n.layer, cell: (n) => String(n.layer)},
      {title: "neuron", number: true, value: (n) => n.neuron, cell: (n) => String(n.neuron)},
      {title: "activation", number: true, value: (n) => n.activation, cell: (n) => signed(n.activation)},
      ...(effects ? [{title: "effect", number: true, value: (n) => n.effect, cell: (n) => signed(n.effect)}] : []),
      {title: "raises", value: (n) => n.raised?.[0]?.value ?? 0, cell: (n) => tokenWords(n.raised, 3)},
      {title: "lowers", value: (n) => -(n.lowered?.[0]?.value ?? 0), cell: (n) => tokenWords(n.lowered, 3)},
    ],
  });
  function look(n) {
    show(detail, h("h2", {}, `Layer ${n.layer}, neuron ${n.neuron}`),
      h("p", {}, "Activation ", h("b", {}, signed(n.activation)), n.effect === null ? "" : [", effect on the metric ", h("b", {}, signed(n.effect))],
        n.activation < 0 ? ". Where its activation is negative, what it raises is lowered." : "."),
      raisedAndLowered(tokenBars(n.raised), tokenBars(n.lowered)));
  }
  const about = data.answer_token ? ["by their direct effect on the logit of ", tokenBox(data.answer_token), data.wrong_token ? [" less that of ", tokenBox(data.wrong_token)] : "", `, ${number(data.metric)} here`] : ["by activation"];
  root.append(pageHead("The strongest neurons", data.meta),
    h("div", {class: "tokens"}, data.tokens.map((_, k) => h("span", {class: k === data.pos ? "token locked" : "token"}, tokenText(data, k)))),
    h("p", {}, `At ${tokenLabel(data, data.pos)}${data.layer === null ? "" : `, in layer ${data.layer}`}, `, about, ". Choose one to see what it writes."),
    list.element, detail,
    h("h2", {}, `The stream after layer ${data.stream.layer}`), h("p", {class: "quiet"}, "Its strongest dimensions at this position."),
    bars(data.stream.dimensions.map((d) => ({name: `dimension ${d.dimension}`, value: d.value, tip: d.effect === null ? null : `effect ${signed(d.effect)}`})), {label: "dimensions"}));
  list.choose(data.neurons[0]);
};
