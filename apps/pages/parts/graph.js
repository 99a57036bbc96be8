// Nodes and links between them, in rows: what comes first stands below, as the residual stream flows up.
//   nodeLink({rows: [[{id, name, tip}]], links: [{from, to, value, tip}], choose: (node or null) => ..., label})
// A link is orange where its value is above 0, blue below, and as thick as it is strong. Choosing a node dims the links
// that do not touch it.
function nodeLink(spec) {
  const [boxWidth, boxHeight, gapX, gapY, margin] = [74, 26, 14, spec.gap ?? 52, 16];
  const across = Math.max(...spec.rows.map((row) => row.length), 1);
  const width = 2 * margin + across * boxWidth + (across - 1) * gapX, height = 2 * margin + spec.rows.length * boxHeight + (spec.rows.length - 1) * gapY;
  const places = new Map();
  spec.rows.forEach((row, r) => row.forEach((node, k) => {
    const rowWidth = row.length * boxWidth + (row.length - 1) * gapX;
    places.set(node.id, {x: (width - rowWidth) / 2 + k * (boxWidth + gapX), y: height - margin - boxHeight - r * (boxHeight + gapY)});
  }));
  const links = svg("g"), nodes = svg("g");
  const root = svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": spec.label});
  root.append(links, nodes);
  let chosen = null, drawn = [];

  function drawLinks(list) {
    const most = Math.max(...list.map((link) => Math.abs(link.value)), 0) || 1;
    drawn = list.filter((link) => places.has(link.from) && places.has(link.to)).map((link) => {
      const [a, b] = [places.get(link.from), places.get(link.to)];
      const [x1, y1, x2, y2] = [a.x + boxWidth / 2, a.y, b.x + boxWidth / 2, b.y + boxHeight];
      const bend = Math.max(20, (y1 - y2) / 2);
      const path = svg("path", {d: `M${x1},${y1} C${x1},${y1 - bend} ${x2},${y2 + bend} ${x2},${y2}`, fill: "none",
        stroke: `rgb(var(--${link.value < 0 ? "less" : "more"}))`, "stroke-width": 1 + 5 * Math.abs(link.value) / most, "stroke-linecap": "round"});
      return {link, path: withTip(path, () => link.tip)};
    });
    show(links, drawn.map((item) => item.path));
    dim();
  }
  function dim() {
    for (const {link, path} of drawn) path.style.opacity = chosen === null ? 0.75 : link.from === chosen || link.to === chosen ? 1 : 0.08;
  }
  const elements = new Map();
  for (const node of spec.rows.flat()) {
    const {x, y} = places.get(node.id);
    const element = svg("g", {class: "node", role: "button", "aria-label": node.name + (node.tip ? ": " + node.tip : ""), "data-node": node.id},
      svg("rect", {x, y, width: boxWidth, height: boxHeight, rx: 5}),
      svg("text", {x: x + boxWidth / 2, y: y + boxHeight / 2 + 4, "text-anchor": "middle"}, node.name));
    pressable(element, () => choose(chosen === node.id ? null : node.id));
    if (node.tip) withTip(element, () => node.tip);
    elements.set(node.id, element);
    nodes.append(element);
  }
  function choose(id) {
    chosen = id;
    for (const [name, element] of elements) element.classList.toggle("chosen", name === id);
    dim();
    if (spec.choose) spec.choose(id);
  }
  drawLinks(spec.links);
  return {element: h("div", {class: "scroll"}, root), drawLinks, choose,
          // Dims the nodes that are not among `ids`.
          light(ids) { for (const [name, element] of elements) element.style.opacity = ids.has(name) ? 1 : 0.35; }};
}
