// Nodes and links between them, in rows: what comes first stands below, as the residual stream flows up.
//   nodeLink({rows: [{name, nodes: [{id, name, tip}]}], links: [{from, to, value, tip, ...}], label,
//             choose: (node's id or null) => ..., chooseLink: (link) => ..., most: nodes a line, gap: pixels,
//             faint: opacity of what is not chosen})
// A row may be a list of nodes alone; one of more than `most` nodes goes on in further lines. With `columns` it has so many
// places, and each node says in which it stands (`column`, from 0); without, nodes stand in the middle. A link is orange where its
// value is above 0, blue below, and as thick as it is strong; `colour` (of CSS) and `dash` (of SVG) say otherwise, `at`,
// from 0 to 1, where on the lower side of its node it ends. Links with the same `of` are one that goes to several nodes;
// one that is `still` cannot be chosen, one that is `straight` passes other lines without a bow. Choosing a node or a link dims the others. Tab reaches one node, arrow keys the
// rest.
function nodeLink(spec) {
  const {lines, places, width, height, boxHeight, middle, aside} = placeNodes(spec);
  const links = svg("g"), nodes = svg("g"), elements = new Map();
  const root = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": spec.label + "; arrow keys move",
    style: `display: block; width: 100%; max-width: ${width}px; min-width: ${Math.min(width, 560)}px`});
  root.append(links, nodes);
  let chosen = null, chosenLink = null, drawn = [];
  for (const line of lines) {
    if (line.name) root.append(svg("text", {class: "quiet", x: 2, y: line.y + boxHeight / 2 + 4}, line.name));
    line.nodes.forEach(addNode);
  }

  function addNode(node) {
    const {x, y, wide} = places.get(node.id);
    const element = svg("g", {class: "node", role: "button", "aria-label": node.name + (node.tip ? ": " + node.tip : ""), "data-node": node.id},
      svg("rect", {x, y, width: wide, height: boxHeight, rx: 5}),
      svg("text", {x: x + wide / 2, y: y + boxHeight / 2 + 4, "text-anchor": "middle"}, node.name));
    pressable(element, () => choose(chosen === node.id ? null : node.id));
    element.addEventListener("keydown", (event) => move(event, node.id));
    element.addEventListener("focus", () => reachByTab(node.id));
    if (node.tip) withTip(element, () => node.tip);
    element.setAttribute("tabindex", elements.size ? "-1" : "0");
    elements.set(node.id, element);
    nodes.append(element);
  }
  function reachByTab(id) {
    for (const [name, element] of elements) element.setAttribute("tabindex", name === id ? "0" : "-1");
  }
  // To the next node of a line, or to the nearest of the next line.
  function move(event, id) {
    const [right, up] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key] ?? [0, 0];
    if (!right && !up) return;
    event.preventDefault();
    const {row, x} = places.get(id), to = lines[row + up]?.nodes ?? [];
    const next = right ? to[to.findIndex((node) => node.id === id) + right]
                       : [...to].sort((a, b) => Math.abs(places.get(a.id).x - x) - Math.abs(places.get(b.id).x - x))[0];
    if (next) elements.get(next.id).focus();
  }

  function drawLinks(list) {
    const most = Math.max(0, ...list.map((link) => Math.abs(link.value ?? 0))) || 1;
    drawn = list.filter((link) => places.has(link.from) && places.has(link.to)).map((link) => {
      const [a, b] = [places.get(link.from), places.get(link.to)];
      const [x1, y1, x2, y2] = [a.x + a.wide / 2, a.y, b.x + b.wide * (link.at ?? 0.5), b.y + boxHeight];
      // A link past other lines goes outwards, beside the nodes that stand there.
      const bow = b.row - a.row < 2 || link.straight ? 0 : Math.sign((x1 + x2) / 2 - middle + 0.5) * Math.min(x1 === x2 ? 1.3 * aside : 72, (x1 === x2 ? 12 : 24) * (b.row - a.row));
      const bend = Math.max(20, (y1 - y2) / 2), d = `M${x1},${y1} C${x1 + bow},${y1 - bend} ${x2 + bow},${y2 + bend} ${x2},${y2}`;
      const thick = 1 + 5 * Math.abs(link.value ?? 0) / most;
      const line = svg("path", {d, fill: "none", stroke: link.colour ?? `rgb(var(--${link.value < 0 ? "less" : "more"}))`, "stroke-width": thick,
        "stroke-dasharray": link.dash, "stroke-linecap": link.dash ? "butt" : "round"});
      // What the pointer meets is wider than the line.
      const group = svg("g", {class: "link", "data-from": link.from, "data-to": link.to},
        line, svg("path", {d, fill: "none", stroke: "transparent", "stroke-width": Math.max(10, thick)}));
      if (link.tip) withTip(group, () => link.tip);
      if (spec.chooseLink && !link.still) group.addEventListener("click", () => chooseLink(link));
      return {link, group};
    });
    show(links, drawn.map((item) => item.group));
    dim();
  }
  function dim() {
    const lit = (link) => (chosenLink ? link === chosenLink || (link.of && link.of === chosenLink.of) : chosen === null || link.from === chosen || link.to === chosen);
    const one = chosen !== null || chosenLink !== null;
    for (const {link, group} of drawn) group.style.opacity = lit(link) ? (one ? 1 : 0.8) : spec.faint ?? 0.1;
  }
  function mark(id, link) {
    [chosen, chosenLink] = [id, link];
    for (const [name, element] of elements) element.classList.toggle("chosen", name === id || name === link?.from || name === link?.to);
    dim();
  }
  function choose(id) {
    mark(id, null);
    if (id !== null && elements.has(id)) reachByTab(id);
    if (spec.choose) spec.choose(id);
  }
  function chooseLink(link) {
    mark(null, link);
    if (spec.chooseLink) spec.chooseLink(link);
  }
  drawLinks(spec.links);
  return {element: h("div", {class: "scroll"}, root), drawLinks, choose, chooseLink,
          // Marks a node or a link as chosen, and tells nobody.
          mark,
          // Dims the nodes that are not among `ids`.
          light(ids) { for (const [name, element] of elements) element.style.opacity = ids.has(name) ? 1 : 0.35; }};
}

// The lines that rows make, each with the y at which it stands, and the place of each node: {x, y, row, wide}.
function placeNodes(spec) {
  const lines = [], places = new Map();
  for (const row of spec.rows) {
    const nodes = row.nodes ?? row, most = spec.most ?? Infinity, columns = row.columns <= most ? row.columns : null;
    for (let k = 0; k === 0 || k < nodes.length; k += most) lines.push({name: k ? "" : row.name, nodes: nodes.slice(k, k + most), columns, again: k > 0});
  }
  // Boxes that stand beside others are alike; one that stands alone is as wide as its name.
  const widthFor = (nodes) => Math.max(46, ...nodes.map((node) => 7 * node.name.length + 14));
  const boxWidth = widthFor(lines.filter((line) => line.nodes.length > 1).flatMap((line) => line.nodes));
  const [boxHeight, gapY, margin, aside] = [26, spec.gap ?? 52, 16, lines.length > 12 ? 90 : 56];
  const left = aside + 6 * Math.max(0, ...lines.map((line) => (line.name ?? "").length));
  const across = Math.max(...lines.map((line) => line.columns ?? line.nodes.length), 1);
  const gapX = across < 2 ? 14 : Math.min(56, Math.max(14, (640 - left - aside - across * boxWidth) / (across - 1)));
  const widthOf = (count) => count * boxWidth + (count - 1) * gapX, width = left + widthOf(across) + aside;
  const rises = lines.map((line) => (line.again ? boxHeight + 10 : boxHeight + gapY));
  const height = 2 * margin + boxHeight + rises.slice(1).reduce((sum, rise) => sum + rise, 0);

  let y = height - margin - boxHeight;
  lines.forEach((line, row) => {
    if (row > 0) y -= rises[row];
    line.y = y;
    const first = left + (widthOf(across) - widthOf(line.columns ?? line.nodes.length)) / 2, wide = Math.max(boxWidth, widthFor(line.nodes));
    line.nodes.forEach((node, k) => {
      places.set(node.id, {x: first + (line.columns ? node.column : k) * (boxWidth + gapX) + (boxWidth - wide) / 2, y, row, wide});
    });
  });
  return {lines, places, width, height, boxHeight, middle: (left + width - aside) / 2, aside};
}

// What a link looks like, as an entry of a legend.
function linkSample({colour, dash, thick = 2.5}, ...text) {
  return h("span", {class: "sample"}, svg("svg", {width: 36, height: 10, "aria-hidden": "true"},
    svg("line", {x1: 1, x2: 35, y1: 5, y2: 5, stroke: colour ?? "var(--text)", "stroke-width": thick, "stroke-dasharray": dash})), text);
}
