// An attribution graph as a picture: positions from left to right, layers upwards; nodes of a cell side by side and above each
// other, supernodes above them.
//   const drawing = graphDrawing(data, nodes, links, {choose: (id, again) => ..., picked: (id) => ...});
function graphDrawing(data, nodes, links, act) {
  const positions = data.metadata.prompt_tokens.length, layers = Math.max(...nodes.map((node) => node.layer ?? 0)) + 1, step = 15;
  const cells = new Map(), cell = (node) => `${node.kind === "logit" ? layers : node.layer}|${node.position}`;
  for (const node of nodes) cells.set(cell(node), [...(cells.get(cell(node)) ?? []), node]);
  // Small nodes of a cell come in rows of `across`, then wide ones, each in a row of its own.
  const across = 4, isWide = (node) => node.kind === "token" || node.kind === "logit" || node.kind === "supernode";
  const smallOf = (list) => list.filter((node) => !isWide(node)).length, tall = (list) => step * Math.ceil(smallOf(list) / across) + 20 * (list.length - smallOf(list));
  const columns = [...Array(positions).keys()].map((p) => Math.max(74, 14 + step * Math.min(across, Math.max(1, ...[...Array(layers + 1).keys()].map((l) => smallOf(cells.get(`${l}|${p}`) ?? []))))));
  const heights = [...Array(layers + 2).keys()].map((k) => (k === 0 || k === layers + 1 ? 14 : 16) + Math.max(k === 0 || k === layers + 1 ? 20 : step, ...[...Array(positions).keys()].map((p) => tall(cells.get(`${k - 1}|${p}`) ?? []))));
  const left = 66, lefts = columns.map((_, p) => left + columns.slice(0, p).reduce((a, b) => a + b, 0)), width = left + columns.reduce((a, b) => a + b, 0) + 60;
  const height = heights.reduce((a, b) => a + b, 0) + 8, bottoms = heights.map((_, k) => height - 4 - heights.slice(0, k).reduce((a, b) => a + b, 0));
  const picture = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "nodes, by layer and token; arrow keys move",
    style: `display: block; width: ${width}px; max-width: none`});
  const lines = svg("g"), marks = svg("g"), places = new Map(), elements = new Map();
  for (let l = 0; l < layers; ++l)
    picture.append(svg("line", {x1: left - 8, x2: width, y1: bottoms[l + 1], y2: bottoms[l + 1], stroke: "var(--edge)", "stroke-width": 0.5}), svg("text", {class: "quiet", x: 2, y: bottoms[l + 1] - 8}, `layer ${l}`));
  picture.append(lines, marks);

  for (const list of cells.values()) [...list].sort((a, b) => isWide(a) - isWide(b)).forEach((node, k) => {
    const row = node.kind === "logit" ? layers + 1 : node.layer + 1, wide = isWide(node), small = smallOf(list);
    const x = lefts[node.position] + (wide ? columns[node.position] / 2 : 12 + step * (k % across)), y = bottoms[row] - (wide ? 14 + step * Math.ceil(small / across) + 20 * (k - small) : 14 + step * Math.floor(k / across));
    places.set(node.id, {x, y});
    const shape = node.kind === "feature" ? svg("circle", {cx: x, cy: y, r: 5}) : node.kind === "error" ? svg("rect", {x: x - 4, y: y - 4, width: 8, height: 8})
                : svg("rect", {x: lefts[node.position] + 3, y: y - 9, width: columns[node.position] - 6, height: 18, rx: node.kind === "supernode" ? 9 : 4});
    const element = svg("g", {class: act.picked(node.id) ? "node picked" : "node", role: "button", "aria-label": node.title, "data-node": node.id, tabindex: elements.size ? "-1" : "0"}, shape,
      wide ? svg("text", {x, y: y + 4, "text-anchor": "middle"}, node.name.length > 9 ? node.name.slice(0, 8) + "…" : node.name) : null);
    pressable(element, () => act.choose(node.id, kept === node.id));
    withTip(element, () => node.title + (node.kind === "feature" ? `: ${number(node.activation)}` : ""));
    element.addEventListener("pointerenter", () => light(node.id));
    element.addEventListener("pointerleave", () => light(kept));
    element.addEventListener("focus", () => light(node.id));
    element.addEventListener("keydown", (event) => move(event, node.id));
    elements.set(node.id, element);
    marks.append(element);
  });

  // To the nearest node in that direction.
  function move(event, id) {
    const [dx, dy] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const from = places.get(id);
    let best = null, least = Infinity;
    for (const [other, to] of places) {
      const along = (to.x - from.x) * dx + (to.y - from.y) * dy, aside = Math.abs((to.x - from.x) * dy) + Math.abs((to.y - from.y) * dx);
      if (along <= 0.5 || along + 3 * aside >= least) continue;
      [best, least] = [other, along + 3 * aside];
    }
    if (best === null) return;
    for (const [name, element] of elements) element.setAttribute("tabindex", name === best ? "0" : "-1");
    elements.get(best).focus();
  }

  // Without a node the strongest edges are drawn, with one its own.
  let kept = null;
  const strongest = [...links].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, 150);
  function light(id) {
    const list = id === null ? strongest : links.filter((link) => link.source === id || link.target === id);
    const top = Math.max(...list.map((link) => Math.abs(link.weight)), 1e-9), near = new Set(list.flatMap((link) => [link.source, link.target]));
    show(lines, list.map((link) => {
      const [a, b] = [places.get(link.source), places.get(link.target)], bend = Math.max(12, (a.y - b.y) / 2);
      return svg("path", {class: "link", d: `M${a.x},${a.y - 5} C${a.x},${a.y - bend} ${b.x},${b.y + bend} ${b.x},${b.y + 5}`, fill: "none", "stroke-width": 0.6 + 3.4 * Math.abs(link.weight) / top,
        stroke: `rgb(var(--${link.weight < 0 ? "less" : "more"}))`, opacity: id === null ? 0.45 : 0.9});
    }));
    for (const [name, element] of elements) element.style.opacity = id === null || name === id || near.has(name) ? 1 : 0.3;
  }
  function mark(id) {
    kept = id;
    for (const [name, element] of elements) element.classList.toggle("chosen", name === id);
    light(id);
  }
  return {element: h("div", {class: "scroll tall"}, picture), mark};
}
