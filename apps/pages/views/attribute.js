// What matters, by gradients: `attribute`. data.scores: of each of data.sites the numbers along its axes, null where they are
// too many for a page; data.errors the same of standard errors, with --pairs.
views.attribute = (data, root) => {
  const base = data.direction === "denoise" ? "corrupt" : "clean", other = base === "clean" ? "corrupt" : "clean";
  const about = {
    "attribution-patching": `What putting the ${other} run's activations into the ${base} run would change, to first order: their difference times the metric's gradient.`,
    "grad-x-act": `What the metric of the ${base} run would lose to zeros, to first order: each activation times the metric's gradient.`,
    ig: `Gradients along the way from the ${base} run's value to the ${other} run's, ${data.steps} steps of it.`,
    exact: "Each edge between two parts patched by itself.",
  }[data.method] ?? `What each part's output does in the input of each later one, to first order${data.steps ? `, with gradients at ${data.steps} points between the runs` : ""}.`;
  const metric = (which) => (data.metric[which] === null ? [] : [`, ${which} `, h("b", {class: "number"}, meanText(data.metric[which]))]);
  root.append(pageHead("What matters, by gradients", data.meta), h("p", {}, h("b", {}, data.method), ". " + about),
    h("p", {class: "metric"}, h("b", {}, data.metric.name), metric("clean"), metric("corrupt")), ...(data.tokens ? bothPrompts(data) : data.pairs.map(promptOfPair).slice(0, 1)));
  if (data.edges) edgeScores(data, root);
  else if (data.values) integratedScores(data, root);
  else nodeScores(data, root);
};

// What the scores are of: the clean prompt of one pair, or how many pairs there are.
function promptOfPair(pair, _, pairs) {
  if (pairs.length > 1) return h("p", {}, `Of ${pairs.length} pairs: means, with standard errors.`);
  return h("div", {class: "tokens"}, h("span", {class: "quiet"}, "clean "), pair.tokens.map((_, k) => h("span", {class: "token"}, tokenText(pair, k))));
}

// A number, or a mean with its standard error.
const meanOf = (x) => (x !== null && typeof x === "object" ? x.mean : x);
const errorOf = (x) => (x !== null && typeof x === "object" ? x.standard_error : null);
const meanText = (x, text = number) => text(meanOf(x)) + (errorOf(x) === null ? "" : " ± " + number(errorOf(x)));

function nodeScores(data, root) {
  // Pairs that are lined up have data.pos, the positions along that axis: [-1, "subject"].
  const sweepLike = (site) => ({...data, axes: site.axes, layers: site.layers, shape: site.shape, labels: site.axes.map((name) => (name === "pos" && data.pos) || null)});
  const along = (site, name, node) => (name === "layer" ? site.layers.indexOf(node.layer) : name === "pos" && data.pos ? data.pos.indexOf(node.pos) : node[name]);
  const patterns = data.sites.map((site) => ({site, axes: sweepAxes(sweepLike(site))}));
  const body = h("div"), detail = h("p", {"aria-live": "polite", class: "detail"});
  const nodes = data.nodes, inSite = (node) => data.sites.findIndex((site) => node.site === (node.layer === null ? "" : `blocks.${node.layer}.`) + site.name);
  const first = nodes.length ? Math.max(0, inSite(nodes[0])) : 0;
  let shown = -1, map = null;

  const nodeText = (node) => node.site + ["pos", "head", "feature"].filter((axis) => node[axis] !== null).map((axis) => ` ${axis} ${node[axis]}`).join("") + tokenOf(node);
  const tokenOf = (node) => (node.pos !== null && data.str_tokens ? ` (${patterns[inSite(node)]?.axes.find((axis) => axis.name === "pos")?.places[node.pos].replace(/^\d+ ?/, "") ?? ""})` : "");
  const exactText = (node) => (node.exact === null ? node.why_not ?? "not measured" : meanText(node.exact, signed));
  const nodeAt = (k, place) => nodes.find((node) => inSite(node) === k && data.sites[k].axes.every((name, a) => along(data.sites[k], name, node) === place[a]));

  function draw(k) {
    shown = k;
    const {site, axes} = patterns[k], values = data.scores[k];
    if (!values) {
      map = null;
      return show(body, h("p", {}, `${site.name} has ${site.shape.reduce((a, b) => a * b, 1).toLocaleString("en")} scores, too many for a page; --out FILE.safetensors has them all.`));
    }
    const value = (place) => numberAt(values, place) ?? null;
    const describe = (place) => {
      const error = data.errors ? numberAt(data.errors[k], place) : null, node = nodeAt(k, place);
      return `score ${signed(value(place))}${error === null || error === undefined ? "" : " ± " + number(error)}` + (node && node.exact !== null ? `, exact ${exactText(node)}` : "");
    };
    map = grid({axes, value, scale: zeroCentred(values, "score"), label: `scores of ${site.name}`, tip: (place) => placeText(axes, place) + "\n" + describe(place),
      choose: (place) => show(detail, h("b", {}, `${site.name}, ${placeText(axes, place)}: `), describe(place))});
    show(body, map.element);
  }
  const sites = choice("Site", data.sites.map((site) => site.name), first, draw);
  const list = table({label: "the strongest", rows: nodes, sort: 3, columns: [
    {title: "site", value: (n) => n.site}, {title: "place", value: (n) => ["pos", "head", "feature"].filter((a) => n[a] !== null).map((a) => `${a} ${n[a]}`).join(", ")},
    {title: "token", value: (n) => tokenOf(n).replace(/^ \(|\)$/g, "")},
    {title: "score", value: (n) => meanOf(n.score), cell: (n) => meanText(n.score, signed), number: true},
    {title: "|score|", value: (n) => Math.abs(meanOf(n.score)), number: true},
    {title: "exact", value: (n) => meanOf(n.exact), cell: exactText, number: true},
  ], choose: (node) => {
    const k = inSite(node);
    if (k < 0) return;
    if (k !== shown) sites.querySelectorAll("button")[k].click();
    map?.choose(data.sites[k].axes.map((name) => along(data.sites[k], name, node)));
  }});
  root.append(h("h2", {}, "Scores"), sites, body, detail, scoreScatter(nodes, nodeText, list.choose) ?? "", h("h2", {}, `The ${nodes.length} strongest`), list.element);
  draw(first);
  if (nodes.length) list.choose(nodes[0]);
}

// Approximation against exact value, of those that have one; nothing where none has.
function scoreScatter(items, name, choose) {
  const measured = items.filter((item) => item.exact !== null && item.score !== null);
  if (!measured.length) return null;
  const points = measured.map((item) => [meanOf(item.exact), meanOf(item.score)]), [least, most] = range([points, 0]);
  return h("section", {class: "scatter"}, h("h2", {}, "Approximation against exact value"),
    h("p", {}, `Of the ${measured.length} that were measured; on the line the approximation is right.`),
    plot({x: "exact change of the metric", y: "score", label: "score against exact value, a point for each", series: [
      {name: "measured", points, dots: true}, {name: "equal", points: [[least, least], [most, most]], dots: false, colour: "var(--quiet)"}],
      tip: (_, point, index) => `${name(measured[index])}\nscore ${meanText(measured[index].score, signed)}\nexact ${meanText(measured[index].exact, signed)}`,
      choose: (_, index) => choose(measured[index])}));
}

function edgeScores(data, root) {
  const name = (edge) => `${edge.from} → ${edge.to}`, detail = h("p", {"aria-live": "polite", class: "detail"});
  const list = table({label: "the strongest edges", rows: data.edges, columns: [
    {title: "from", value: (e) => e.from}, {title: "to", value: (e) => e.to},
    {title: "score", value: (e) => meanOf(e.score), cell: (e) => meanText(e.score, signed), number: true},
    {title: "|score|", value: (e) => Math.abs(meanOf(e.score)), number: true},
    {title: "exact", value: (e) => meanOf(e.exact), cell: (e) => (e.exact === null ? "not measured" : meanText(e.exact, signed)), number: true},
  ], choose: (edge) => show(detail, h("b", {}, name(edge)), `: score ${meanText(edge.score, signed)}` + (edge.exact === null ? "" : `, exact ${meanText(edge.exact, signed)}`))});
  const measured = data.method === "exact" ? null : scoreScatter(data.edges, name, list.choose);
  root.append(measured ?? "", h("h2", {}, `The ${data.edges.length} strongest edges of ${data.count.toLocaleString("en")}`), detail, list.element);
}

function integratedScores(data, root) {
  const axes = sweepAxes({...data, layers: []}), detail = h("p", {"aria-live": "polite", class: "detail"});
  const describe = (place) => `${placeText(axes, place)}: ${signed(numberAt(data.values, place))}`;
  root.append(h("h2", {}, data.site),
    h("p", {}, "The scores add up to ", h("b", {}, number(data.sum)), `; the metric goes from ${number(data.at_base)} to ${number(data.at_other)}, by ${number(data.at_other - data.at_base)}: off by ${percent(data.completeness_error)}.`),
    grid({axes, value: (place) => numberAt(data.values, place), scale: zeroCentred(data.values, "score"), label: `scores of ${data.site}`, tip: describe,
          choose: (place) => { detail.textContent = describe(place); }}).element, detail);
}
