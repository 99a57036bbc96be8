// What would be said at each layer: `lens`. data.grid: of all positions, {positions, raw, ln: [stage][position], top:
// [position][stage][[id, probability, logit]], words: {id: text}}.
views.lens = (data, root) => {
  const {raw, ln, top, words} = data.grid, stages = data.stages, positions = data.tokens.map((_, p) => p);
  const word = (id) => (words ? visible(words[id]) : String(id));
  const answer = tokenName(data.answer) + (data.wrong ? " less " + tokenName(data.wrong) : "");
  const ways = [
    {name: "probability of the top token", values: stages.map((_, s) => positions.map((p) => top[p][s][0][1])), scale: fromZero(1, "probability"), text: percent},
    {name: "answer, through the norm", values: ln, scale: zeroCentred(ln, `logit ${answer}`), text: signed},
    {name: "answer, raw", values: raw, scale: zeroCentred(raw, `raw logit ${answer}`), text: signed},
  ];
  let stage = stages.length - 1, position = data.position ?? positions.length - 1, way = 0, map = null;
  const box = h("div"), detail = h("section", {"aria-live": "polite", class: "detail"}), curve = h("section");
  const place = (s, p) => (s === 0 ? "after the embedding" : "after " + stages[s]) + ", at " + tokenLabel(data, p);

  function draw() {
    const {values, scale, text} = ways[way];
    map = heatmap({
      label: "the top token at each layer and position", values, rows: stages, columns: positions.map((p) => tokenLabel(data, p)), scale,
      cell: 26, width: 84, text: (s, p) => word(top[p][s][0][0]),
      tip: (s, p) => `${place(s, p)}\n` + top[p][s].map(([id, share]) => `${word(id)}  ${probability(share)}`).join("\n") +
        `\nlogit ${answer}: ${number(ln[s][p])}, raw ${number(raw[s][p])}`,
      choose: (s, p) => { [stage, position] = [s, p]; drawCell(); drawCurve(); },
    });
    show(box, h("div", {class: "controls"}, scaleBar(scale, way === 0 ? text : number), h("span", {class: "quiet"}, "rows: layers, columns: positions")), map.element);
    map.choose(stage, position);
  }
  function drawCell() {
    show(detail, h("h2", {}, `Said ${place(stage, position)}`),
      h("p", {}, `logit ${answer}: `, h("b", {}, number(ln[stage][position])), " through the final norm, ", h("b", {}, number(raw[stage][position])), " raw"),
      bars(top[position][stage].map(([id, share, logit]) => ({name: h("code", {}, word(id)), value: share, tip: `logit ${number(logit)}`})),
           {text: probability, label: "the most probable tokens", colour: "weight"}));
  }
  function drawCurve() {
    const change = (values, s) => (s === 0 ? null : values[s][position] - values[s - 1][position]);
    const series = [["through the norm", ln], ["raw", raw]].map(([name, values]) => ({name, points: stages.map((_, s) => [s, values[s][position]])}));
    show(curve, h("h2", {}, `Logit ${answer} at ${tokenLabel(data, position)}, layer by layer`),
      plot({series, x: "after", y: "logit", label: "the answer's logit after each layer", names: stages.map((_, s) => (s === 0 ? "embedding" : String(s - 1))),
            tip: (one, point) => `${stages[point[0]]}, ${one.name}\n${number(point[1])}`}),
      table({label: "the answer's logit after each layer", rows: stages.map((_, s) => s), choose: (s) => map.choose(s, position), columns: [
        {title: "after", value: (s) => s, cell: (s) => stages[s]},
        {title: "raw", value: (s) => raw[s][position], number: true},
        {title: "change", value: (s) => change(raw, s), cell: (s) => signed(change(raw, s)), number: true},
        {title: "through the norm", value: (s) => ln[s][position], number: true},
        {title: "change", value: (s) => change(ln, s), cell: (s) => signed(change(ln, s)), number: true},
        {title: "top token", value: (s) => word(top[position][s][0][0]), cell: (s) => h("code", {}, word(top[position][s][0][0]))},
      ]}).element,
      h("p", {class: "quiet"}, "raw: the stream times the unembedding, whose changes add up. Through the norm: with that layer's own scale, as the model would say it; these changes do not add up."));
  }
  root.append(pageHead("What the model would say at each layer", data.meta),
    h("p", {}, "The residual stream after the embedding and after each layer, read as if the model stopped there. In each cell the most probable next token; a click lists more."),
    choice("Colours", ways.map((one) => one.name), way, (k) => { way = k; draw(); }), box, detail, curve);
  draw();
};

// A token of the JSON, {id, token}, as text.
function tokenName(token) {
  return token.token === null ? String(token.id) : visible(token.token);
}
