// Where each token looks: `attention`. data.patterns: [layer][head][query][key] of data.layers; data.layer and
// data.heads are those that were asked for.
views.attention = (data, root) => {
  const last = data.tokens.length - 1, scale = fromZero(1, "attention");
  let [layer, head] = [data.layer, data.heads[0]], position = last, asDestination = true;
  const pattern = () => data.patterns[data.layers.indexOf(layer)][head];

  // Of the token that is looked at, what it looks at (it is the destination of what moves); or who looks at it.
  const weights = () => pattern().map((_, k) => {
    if (asDestination) return k <= position ? pattern()[position][k] : null;
    return k >= position ? pattern()[k][position] : null;
  });
  const strip = tokenStrip(data, last, (at) => { position = at; paint(); });
  const sentence = h("p", {"aria-live": "polite"}), matrix = h("div"), title = h("h2");

  function paint() {
    const w = weights();
    strip.paint(scale, w, percent);
    const strongest = w.map((x, k) => [x, k]).filter(([x]) => x !== null).sort((a, b) => b[0] - a[0]).slice(0, 3);
    show(sentence, `${tokenLabel(data, position)} ${asDestination ? "attends to" : "is attended to by"} `,
         strongest.map(([x, k], i) => [i ? ", " : "", h("b", {}, tokenLabel(data, k)), " " + percent(x)]));
  }
  function zoom() {
    title.textContent = `Layer ${layer}, head ${head}`;
    const names = data.tokens.map((_, k) => tokenLabel(data, k));
    show(matrix, heatmap({
      label: `attention of layer ${layer}, head ${head}: a row for each token that attends, a column for each that it attends to`,
      values: pattern().map((row, q) => row.map((x, k) => (k <= q ? x : null))), rows: names, columns: names, scale,
      tip: (q, k) => `${tokenLabel(data, q)} → ${tokenLabel(data, k)}\n${percent(pattern()[q][k])}`,
      choose: (q, k) => strip.lock(asDestination ? q : k),
    }).element);
    paint();
  }
  const grid = headGrid({
    layers: data.layers, heads: data.patterns[0].length,
    picture: (l, k) => thumbnail(data.patterns[data.layers.indexOf(l)][k], scale, 56),
    name: (l, k) => `layer ${l}, head ${k}`,
    choose: (l, k) => { [layer, head] = [l, k]; zoom(); },
  });

  root.append(pageHead("Where each token looks", data.meta),
    h("p", {}, "Each token attends to itself and to those before it; its weights add up to 1. Choose a head, then point at a token; a click keeps it, arrow keys move on."),
    h("h2", {}, "Heads"), grid.element, title,
    choice("A token is", ["the one that looks", "the one looked at"], 0, (k) => { asDestination = k === 0; paint(); }),
    strip.element, sentence, scaleBar(scale, percent), matrix);
  grid.choose(layer, head);
};
