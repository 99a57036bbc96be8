// Numbers along named axes as a heatmap around zero: the last two axes are its rows and columns, those before have a picker
// each.
//   const g = grid({axes: [{name: "layer", places: ["0", "1"]}, ...], value: (place) => number or null, scale,
//                   tip: (place) => text, choose: (place) => ..., label});  g.element; g.choose(place)
// A place is a list of indices, one for each axis. Of a long axis of columns those with the largest numbers are drawn.
function grid(spec) {
  const kMostColumns = 256, kWithNumbers = 16;
  const alone = spec.axes.length === 1;
  const axes = alone ? [{name: "", places: [""]}, ...spec.axes] : spec.axes;
  const [down, across] = axes.slice(-2), ahead = axes.slice(0, -2);
  const whole = (place) => (alone ? place.slice(1) : place);
  let held = ahead.map(() => 0), map = null, columns = [];

  const box = h("div"), note = h("p", {class: "quiet"});
  const pickers = ahead.map((axis, k) => picker(axis.name, axis.places, 0, (index) => { held[k] = index; draw(); }));
  const value = (r, c) => spec.value(whole([...held, r, c]));

  // The columns with the largest numbers, in their order; all of them where they are few.
  function strongest() {
    const all = across.places.map((_, c) => c);
    if (all.length <= kMostColumns) return all;
    const size = (c) => Math.max(...down.places.map((_, r) => Math.abs(value(r, c) ?? 0)));
    const sizes = all.map((c) => [size(c), c]).sort((a, b) => b[0] - a[0]).slice(0, kMostColumns);
    return sizes.map(([, c]) => c).sort((a, b) => a - b);
  }
  function draw() {
    columns = strongest();
    note.textContent = columns.length === across.places.length ? ""
      : `the ${columns.length} of ${across.places.length.toLocaleString("en")} columns with the largest numbers`;
    const values = down.places.map((_, r) => columns.map((c) => value(r, c) ?? null)), few = columns.length <= kWithNumbers;
    map = heatmap({
      label: `${spec.label}: a row for each ${down.name || "run"}, a column for each ${across.name}`,
      values, rows: down.places, columns: columns.map((c) => across.places[c]), scale: spec.scale,
      cell: 24, width: few ? 64 : 24, text: few ? (r, c) => signed(values[r][c] && Number(values[r][c].toPrecision(2))) : undefined,
      tip: (r, c) => spec.tip(whole([...held, r, columns[c]])),
      choose: (r, c) => spec.choose(whole([...held, r, columns[c]])),
    });
    show(box, map.element);
  }
  draw();
  return {
    element: h("div", {}, h("div", {class: "controls"}, pickers, scaleBar(spec.scale, signed),
      h("span", {class: "quiet"}, alone ? `columns: ${across.name}` : `rows: ${down.name}, columns: ${across.name}`)), note, box),
    // Shows the cell of a place, whatever was picked before.
    choose(place) {
      const at = alone ? [0, ...place] : place, before = held.join();
      held = at.slice(0, -2);
      pickers.forEach((label, k) => { label.querySelector("select").selectedIndex = held[k]; });
      if (held.join() !== before) draw();
      const column = columns.indexOf(at.at(-1));
      if (column >= 0) map.choose(at.at(-2), column);
      else spec.choose(place);  // not drawn
    },
  };
}

// The number at a place of lists within lists; undefined where there is none.
function numberAt(values, place) {
  return place.reduce((list, k) => list?.[k], values);
}

// All places along axes, the last running fastest.
function placesOf(axes) {
  return axes.reduce((places, axis) => places.flatMap((place) => axis.places.map((_, k) => [...place, k])), [[]]);
}

// "layer 3, pos 4 is": a place in words.
function placeText(axes, place) {
  return axes.map((axis, k) => `${axis.name} ${axis.places[place[k]]}`).join(", ");
}
