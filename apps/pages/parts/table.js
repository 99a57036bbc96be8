// A table that sorts: a press on the title of a column sorts by it, largest first; once more turns it round.
//   table({columns: [{title, value: (row) => number or text, cell: (row) => text or element, number: true}], rows,
//          sort: 1 (the column it begins with, or none), choose: (row) => ..., label})
// Tables of over 200 rows draw only those that are in sight, so that their rows are one line high.
function table(spec) {
  const kRowHeight = 30, kAllDrawn = 200;
  let rows = [...spec.rows], by = spec.sort ?? null, down = true, chosen = null;
  const long = () => rows.length > kAllDrawn;
  const heads = spec.columns.map((column, k) => h("th", {scope: "col", class: column.number ? "number" : null},
    h("button", {type: "button", onclick: () => sortBy(k)}, column.title)));
  const body = h("tbody");
  const box = h("div", {class: "scroll", tabindex: null}, h("table", {"aria-label": spec.label}, h("thead", {}, h("tr", {}, heads)), body));

  function line(row) {
    const element = h("tr", {class: row === chosen ? "chosen" : null, style: long() ? `height: ${kRowHeight}px` : null},
      spec.columns.map((column) => h("td", {class: column.number ? "number" : null, style: long() ? "white-space: nowrap" : null},
        column.cell ? column.cell(row) : column.number ? number(column.value(row)) : column.value(row))));
    if (spec.choose) pressable(element, () => choose(row));
    return element;
  }
  function choose(row) {
    chosen = row;
    for (const element of body.children) element.classList.toggle("chosen", element.of === row);
    spec.choose(row);
  }
  function draw() {
    box.className = long() ? "long" : "scroll";
    if (long()) return drawInSight();
    show(body, rows.map(keep));
  }
  function keep(row) {
    const element = line(row);
    element.of = row;
    return element;
  }
  function drawInSight() {
    const first = Math.max(0, Math.floor(box.scrollTop / kRowHeight) - 10);
    const last = Math.min(rows.length, first + Math.ceil((box.clientHeight || 512) / kRowHeight) + 20);
    const space = (count) => h("tr", {"aria-hidden": "true", style: `height: ${count * kRowHeight}px`});
    show(body, space(first), rows.slice(first, last).map(keep), space(rows.length - last));
  }
  box.addEventListener("scroll", () => { if (long()) drawInSight(); });

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
      const compare = (a, b) => (typeof a === "string" || typeof b === "string" ? String(b).localeCompare(String(a)) : (b ?? -Infinity) - (a ?? -Infinity));
      rows.sort((a, b) => (down ? 1 : -1) * compare(value(a), value(b)));
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
