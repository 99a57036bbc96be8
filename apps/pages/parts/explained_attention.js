// Why heads look where they look: scores of attention as sums over pairs of what a query and a key read, and the heads that carry edges.
//   attentionSection(data, choose): an element, or null where nothing was asked for; choose(id) shows a node of the graph

function attentionSection(data, choose) {
  const places = data.attention ?? [], edges = data.edges ?? [];
  if (!places.length && !edges.length) return null;
  const shown = h("div", {id: "score"}), token = (p) => `${p} ${data.metadata.prompt_tokens[p]}`;
  const name = (place) => `${place.layer}.${place.head} from ${token(place.query)} to ${token(place.key)}`;
  const pick = places.length ? picker("Head", places.map(name), 0, (k) => show(shown, scoreOf(places[k]))) : null;
  if (places.length) show(shown, scoreOf(places[0]));
  return h("section", {id: "attention"}, h("h2", {}, "Why heads look there"), edges.map(edgeOf), pick ? h("div", {class: "controls"}, pick) : null, shown);

  function edgeOf(edge) {
    const rows = edge.heads.slice(0, 50), nodeName = (id) => data.nodes.find((n) => n.node_id === id) ? graphNode(data, data.nodes.find((n) => n.node_id === id)).title : id;
    const list = table({label: `heads that carry the edge from ${edge.source} to ${edge.target}`, rows, choose: (head) => {
      const k = places.findIndex((p) => p.layer === head.layer && p.head === head.head && p.query === head.query && p.key === head.key);
      if (k < 0) return;
      pick.querySelector("select").selectedIndex = k;
      show(shown, scoreOf(places[k]));
    }, columns: [{title: "head", value: (head) => `${head.layer}.${head.head}`}, {title: "query", value: (head) => token(head.query)}, {title: "key", value: (head) => token(head.key)},
      {title: "weight", number: true, value: (head) => head.weight}]});
    return h("section", {}, h("h3", {}, `The edge from ${nodeName(edge.source)} to ${nodeName(edge.target)}`),
      h("p", {}, "Its weight is ", h("b", {}, number(edge.weight)), "; ", h("b", {}, number(edge.direct)), " of it goes through no head. What goes through two heads counts for both."), list.element);
  }

  function scoreOf(place) {
    const part = (p) => p.kind === "feature" ? `feature ${p.layer}.${p.number}` : p.kind === "head" ? `head ${p.layer}.${p.number}` : p.kind === "error" || p.kind === "skip" ? `${p.kind} ${p.layer}`
      : p.kind === "token" ? "token" : p.kind === "position" ? "its position" : p.kind === "bias" ? "biases" : `${p.together} others`;
    const chosen = (p) => { if (p.node && data.nodes.some((n) => n.node_id === p.node)) choose(p.node); };
    const side = (title, parts, other) => table({label: title, rows: parts, sort: 2, choose: chosen, columns: [
      {title, value: part}, {title: `with all ${other}`, number: true, value: (p) => p.total}, {title: "size", number: true, value: (p) => Math.abs(p.total)}]}).element;
    return [h("p", {}, `Head ${name(place)} has the score `, h("b", {}, number(place.score)), ", which softmax makes a weight of ", h("b", {}, share1(place.pattern)),
      `. ${place.query_parts.length} parts of the query times ${place.key_parts.length} parts of the key add up to it. What is the same for all keys moves no attention.`),
      h("h3", {}, "The strongest pairs"),
      table({label: "pairs", rows: place.pairs, choose: (pair) => chosen(place.query_parts[pair.query]), columns: [
        {title: "query has", value: (pair) => part(place.query_parts[pair.query])}, {title: "key has", value: (pair) => part(place.key_parts[pair.key])}, {title: "score", number: true, value: (pair) => pair.score}]}).element,
      h("div", {class: "pair"}, h("div", {}, side("query has", place.query_parts, "keys")), h("div", {}, side("key has", place.key_parts, "queries")))];
  }
}
