// A table that sorts: a press on the title of a column sorts by it, largest first; once more turns it round.
//   table({columns: [{title, value: (row) => number or text, cell: (row) => text or element, number: true, width: "5rem"}],
//          rows, sort: 1 (the column it begins with, or none), choose: (row) => ..., label})
// Tables of over 200 rows draw only those that are in sight, so that their rows are one line high. There, the table has
// the focus instead of its rows, and arrow keys choose the next one.
function table(spec) {
  const kRowHeight = 30, kAllDrawn = 200, kSpare = 12, kOrder = new Intl.Collator();
  let rows = [...spec.rows], by = spec.sort ?? null, down = true, chosen = null;
  const long = () => rows.length > kAllDrawn;
  const heads = spec.columns.map((column, k) => h("th", {scope: "col", class: column.number ? "number" : null, style: column.width ? `width: ${column.width}` : null},
    h("button", {type: "button", onclick: () => sortBy(k)}, column.title)));
  const body = h("tbody");
  const box = h("div", {class: "scroll"}, h("table", {"aria-label": spec.label}, h("thead", {}, h("tr", {}, heads)), body));

  function line(row) {
    const element = h("tr", {class: row === chosen ? "chosen" : null},
      spec.columns.map((column) => h("td", {class: column.number ? "number" : null},
        column.cell ? column.cell(row) : column.number ? number(column.value(row)) : column.value(row))));
    element.of = row;
    if (spec.choose && !long()) pressable(element, () => choose(row));
    return element;
  }
  function choose(row) {
    chosen = row;
    for (const element of body.children) element.classList.toggle("chosen", element.of !== undefined && element.of === row);
    spec.choose(row);
  }
  function draw() {
    box.className = long() ? "long" : "scroll";
    if (long()) {
      box.tabIndex = 0;
      box.setAttribute("aria-label", `${spec.label}, ${rows.length}; arrow keys choose`);
      show(body, above, below);
      [first, last] = [0, 0];
      return drawInSight();
    }
    box.removeAttribute("tabindex");
    show(body, rows.map(line));
  }

  // ---- long tables: rows [first, last) are drawn, between two spaces
  const space = () => h("tr", {"aria-hidden": "true", class: "space"}, h("td", {colspan: spec.columns.length}));
  const above = space(), below = space();
  let first = 0, last = 0;
  function drawInSight() {
    const top = Math.floor(box.scrollTop / kRowHeight), seen = Math.ceil((box.clientHeight || 512) / kRowHeight);
    // What is drawn does for a while: it goes beyond what is in sight.
    if (first <= Math.max(0, top - 2) && last >= Math.min(rows.length, top + seen + 2) && last > 0) return;
    const [from, to] = [Math.max(0, top - kSpare), Math.min(rows.length, top + seen + kSpare)];
    while (first < last && first < from) { above.nextSibling.remove(); ++first; }
    while (first < last && last > to) { below.previousSibling.remove(); --last; }
    if (first >= last) first = last = from;
    const before = rows.slice(from, first).map(line), after = rows.slice(last, to).map(line);
    above.after(...before);
    below.before(...after);
    [first, last] = [from, to];
    above.style.height = first * kRowHeight + "px";
    below.style.height = (rows.length - last) * kRowHeight + "px";
  }
  box.addEventListener("scroll", () => { if (long()) drawInSight(); }, {passive: true});
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr")?.of;
    if (row !== undefined && long() && spec.choose) choose(row);
  });
  box.addEventListener("keydown", (event) => {
    if (!long() || !spec.choose || event.target !== box) return;
    const at = rows.indexOf(chosen), page = Math.max(1, Math.floor(box.clientHeight / kRowHeight) - 2);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length - 1}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = Math.min(rows.length - 1, Math.max(0, to)), head = box.querySelector("thead").offsetHeight;
    if (next * kRowHeight < box.scrollTop) box.scrollTop = next * kRowHeight;
    if ((next + 1) * kRowHeight > box.scrollTop + box.clientHeight - head) box.scrollTop = (next + 1) * kRowHeight - box.clientHeight + head;
    drawInSight();
    choose(rows[next]);
  });

  function sortBy(k) {
    down = by === k ? !down : true;
    by = k;
    sort();
    box.scrollTop = 0;
    draw();
  }
  function sort() {
    if (by !== null) {
      const value = spec.columns[by].value;
      const compare = (a, b) => (typeof a === "string" || typeof b === "string" ? kOrder.compare(String(b), String(a)) : (b ?? -Infinity) - (a ?? -Infinity));
      const keyed = rows.map((row) => [value(row), row]);
      keyed.sort(([a], [b]) => (down ? 1 : -1) * compare(a, b));
      rows = keyed.map(([, row]) => row);
    }
    heads.forEach((head, k) => (k === by ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
  }
  sort();
  draw();
  return {
    element: box,
    choose,
    // Other rows in the same order: those that a search found.
    showRows(others) {
      rows = [...others];
      sort();
      box.scrollTop = 0;
      draw();
    },
  };
}
