// Every feature of an SAE over a text: `sae features --corpus`. data.list has a column of values for each title of
// the list; what else is known of the features comes in chunks: "block-N" has data.block of them, in the order of the list;
// "words" the texts of token ids; "texts" the tokens around the contexts, where a block has not its own; "search"
// what can be searched for.
views.features = (data, root) => {
  const columns = data.list, rows = columns.feature.map((feature, index) => ({feature, index}));
  const at = new Map(rows.map((row) => [row.feature, row]));
  const value = (name) => (row) => columns[name][row.index];
  const detail = h("section", {"aria-label": "the chosen feature", class: "detail"});
  const found = h("p", {class: "quiet", "aria-live": "polite"});
  const nameOf = (row) => data.names?.[row.feature] ?? "";
  let latest = 0;

  const hasText = Boolean(data.tokens);
  const list = table({
    label: "features", rows, choose: (row) => look(row),
    columns: [
      {title: "feature", number: true, width: "4.5rem", value: (row) => row.feature, cell: (row) => String(row.feature)},
      ...(hasText ? [
        {title: "density", number: true, width: "4.5rem", value: value("density"), cell: (row) => densityText(columns.density[row.index])},
        {title: "mean", number: true, width: "3.75rem", value: value("mean")},
        {title: "peak", number: true, width: "3.75rem", value: value("peak")}] : []),
      ...(columns.effect ? [{title: "effect", number: true, width: "4.5rem", value: value("effect")}] : []),
      ...(data.names ? [{title: "name", value: (row) => nameOf(row), cell: (row) => nameOf(row)}] : []),
      {title: hasText ? "active at" : "raises", value: value("name"), cell: (row) => h("span", {class: "name"}, visible(columns.name[row.index]))},
    ],
  });

  // ---- searching
  const kinds = ["anything", ...(hasText ? ["active at"] : []), "raises", "lowers", "number", ...(data.names ? ["name"] : [])];
  let kind = 0;
  const input = h("input", {type: "search", placeholder: data.names ? "token, number or name" : "token or number", "aria-label": "search the features", oninput: () => search()});
  async function search() {
    const text = input.value, mine = ++latest;
    if (!text.trim()) return showFound(rows, "");
    let hits;
    try {
      hits = await matching(text.trim().toLowerCase(), kinds[kind]);
    } catch (error) {
      found.textContent = error.message;
      return;
    }
    if (mine === latest) showFound(rows.filter((row) => hits.has(row.index)), text);
  }
  async function matching(text, what) {
    const hits = new Set(), any = what === "anything";
    if (any || what === "number") rows.forEach((row) => { if (String(row.feature) === text || (!any && String(row.feature).startsWith(text))) hits.add(row.index); });
    if (data.names && (any || what === "name")) rows.forEach((row) => { if (nameOf(row).toLowerCase().includes(text)) hits.add(row.index); });
    if (what === "number" || what === "name") return hits;
    const [words, lists] = [await chunk("words"), await chunk("search")];
    const ids = new Set(Object.keys(words).filter((id) => words[id].toLowerCase().includes(text)).map(Number));
    for (const [name, of] of [["active at", lists.active], ["raises", lists.raised], ["lowers", lists.lowered]]) {
      if (of && (any || what === name)) of.forEach((tokens, index) => { if (tokens.some((id) => ids.has(id))) hits.add(index); });
    }
    return hits;
  }
  function showFound(some, text) {
    list.showRows(some);
    found.textContent = `${some.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} features` + (text ? ` for “${text}”` : "");
  }

  // ---- one feature
  let looked = 0;
  async function look(row) {
    const mine = ++looked;
    let parts;
    try {
      parts = await Promise.all([chunk(`block-${Math.floor(row.index / data.block)}`), chunk("words")]);
    } catch (error) {
      return show(detail, h("p", {}, error.message));
    }
    const [block, words] = parts, texts = block.texts ?? (hasText ? await chunk("texts") : []);
    if (mine !== looked) return;
    drawFeature(row, block.features[row.index % data.block], texts, words);
    say(`feature ${row.feature}`);
  }
  let redraw = null;
  onTheme(detail, () => redraw?.());
  function drawFeature(row, f, texts, words) {
    redraw = () => drawFeature(row, f, texts, words);
    const word = (id) => words[id] ?? `#${id}`, tokens = (flat) => flat && pairs(flat).map(([id, x]) => ({name: visible(word(id)), value: x}));
    const scale = fromZero(columns.peak?.[row.index] ?? 1, "activation");
    const context = (c) => spread(c, texts, data.window, word);
    const facts = [["density", "share of the text’s tokens at which it is active", densityText], ["mean", "mean activation there", number],
                   ["peak", "strongest activation", number], ["effect", "how far its mean activation moves the logit that it moves most", number]];
    show(detail,
      h("h2", {}, `Feature ${row.feature}`, nameOf(row) ? ` “${nameOf(row)}”` : ""),
      h("dl", {class: "facts"}, facts.filter(([name]) => columns[name]).map(([name, about, text]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, text(columns[name][row.index]), " ", h("span", {class: "quiet"}, about))))),
      raisedAndLowered(tokens(f.raised), tokens(f.lowered)),
      f.counts && f.contexts.length ? activations(row, f, scale, context) : hasText ? h("p", {class: "quiet"}, "It was not active anywhere in the text.") : null,
      h("div", {class: "pair"}, near(f), dimensions(f)),
      steering(row, f, word));
  }
  function activations(row, f, scale, context) {
    const peak = columns.peak[row.index], count = f.counts.length, all = f.counts.reduce((a, b) => a + b, 0), wide = peak / count;
    const intervals = f.intervals.map((examples, k) => ({examples, k})).filter(({examples}) => examples.length);
    const per = count / f.intervals.length;
    const share = (k) => f.counts.slice(k * per, (k + 1) * per).reduce((a, b) => a + b, 0) / (all || 1);
    return [
      h("h3", {}, "Activations"),
      histogram({counts: f.counts, least: 0, most: peak, x: `activation, at ${all.toLocaleString("en")} tokens`, label: `histogram of the activations of feature ${row.feature}`,
                 tip: (k) => `${number(k * wide)} to ${number((k + 1) * wide)}\n${f.counts[k].toLocaleString("en")} tokens, ${percent(f.counts[k] / (all || 1))}`}),
      h("h3", {}, `The ${f.contexts.length} strongest contexts`), scaleBar(scale),
      contextLines(f.contexts.map(context), scale),
      h("h3", {}, "Intervals of activation"), h("p", {class: "quiet"}, "Of equal width; a fair sample of the tokens in each."),
      intervals.map(({examples, k}) => [
        h("p", {class: "interval"}, `${number(k * peak / f.intervals.length)} to ${number((k + 1) * peak / f.intervals.length)}: `, h("b", {}, percent(share(k))), " of its activations"),
        contextLines(examples.map(context), scale)]).reverse()];
  }
  function near(f) {
    if (!f.neighbours?.length) return null;
    return h("div", {}, h("h3", {}, "Nearest features (cosine of decoder rows)"), bars(pairs(f.neighbours).map(([feature, cosine]) => ({
      name: String(feature), value: cosine, choose: at.has(feature) ? () => open(at.get(feature)) : null,
      tip: at.has(feature) ? columns.name[at.get(feature).index] : "not active in this text"})), {label: "nearest features"}));
  }
  function dimensions(f) {
    const side = (title, name, flat) => h("div", {}, h("h3", {}, title), bars(pairs(flat).map(([index, x]) => ({name: `${name} ${index}`, value: x})), {label: title}));
    return [f.neurons ? side(`Neurons of layer ${data.neurons_of} that write most alike (cosine)`, "neuron", f.neurons) : null,
            f.dimensions ? side("Strongest dimensions (share of the row’s length)", "dimension", f.dimensions) : null];
  }
  function steering(row, f, word) {
    const title = h("h3", {}, "Steering preview");
    if (!data.steering) return null;
    if (!f.steered) return [title, h("p", {class: "quiet"}, `Previews are made of ${data.steering.count} features; --feature ${row.feature} makes one of this.`)];
    const tops = [{name: "nothing added", top: data.steering.plain}, ...f.steered.map((top, k) => ({name: `${signed(data.steering.strengths[k])} × peak`, top}))];
    return [title,
      h("p", {}, "The most probable next tokens after ", h("span", {class: "tokens"}, data.steering.str_tokens.map((t) => h("span", {class: "token"}, visible(t)))),
        " when the feature’s decoder row is added at every token, so many times its strongest activation."),
      h("div", {class: "scroll"}, h("table", {class: "steered", "aria-label": "steering preview"}, h("tbody", {}, tops.map(({name, top}) => h("tr", {},
        h("th", {scope: "row"}, name), pairs(top).map(([id, p]) => h("td", {}, h("span", {class: "token"}, visible(word(id))), " ", h("span", {class: "quiet"}, percent(p)))))))))];
  }
  function open(row) {
    list.choose(row);
    detail.scrollIntoView({block: "start"});
    detail.querySelector("h2")?.focus?.();
  }

  root.append(pageHead(`Features of ${data.site}`, data.meta),
    h("p", {}, hasText ? `What each feature of the SAE ${data.sae} is active at in ${data.file} (${data.tokens.toLocaleString("en")} tokens), and what it writes: ` : `What each feature of the SAE ${data.sae} writes: `,
      "choose one from the list. Titles sort; arrow keys move over the rows."),
    h("div", {class: "beside"},
      h("section", {"aria-label": "all features"}, h("div", {class: "controls"}, input, picker("in", kinds, 0, (k) => { kind = k; search(); })), found, list.element),
      detail));
  showFound(rows, "");
  list.choose(rows[0]);

  function densityText(x) {
    return number(100 * x) + "%";
  }
};

// A context as contextLines takes it, of [text, position, activation there, offset, activation, ...]: which of `texts`,
// [line, first position, id, ...], and how far from the position it is active, too.
function spread([text, position, activation, ...others], texts, window, word) {
  const [line, first, ...ids] = texts[text];
  const from = Math.max(first, position - window), to = Math.min(first + ids.length, position + window + 1);
  const values = new Array(to - from).fill(0);
  values[position - from] = activation;
  for (const [offset, x] of pairs(others)) values[position + offset - from] = x;
  return {value: activation, texts: ids.slice(from - first, to - first).map(word), values, peak: position - from,
          before: from > 0, after: position + window + 1 <= first + ids.length, where: `line ${line}, token ${position}`};
}
