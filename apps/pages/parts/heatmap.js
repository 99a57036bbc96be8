// A matrix of numbers as coloured cells with named rows and columns. Pointer and arrow keys move over the cells; a click
// or Enter chooses one.
//   heatmap({values, rows, columns, scale, tip: (row, column) => text, choose: (row, column) => ..., label,
//            text: (row, column) => what is written in a cell, marked: (row, column) => whether it has a frame,
//            cell: pixels, width: pixels})
// A value that is null is an empty cell.
function heatmap(map) {
  const height = map.cell ?? 22, width = map.width ?? (map.text ? 72 : height);
  const [rows, columns] = [map.rows.length, map.columns.length];
  const canvas = h("canvas", {tabindex: "0", role: "img", "aria-label": map.label + "; arrow keys move over the cells"});
  let at = [rows - 1, columns - 1], chosen = null;

  function draw() {
    const density = devicePixelRatio || 1;
    canvas.width = columns * width * density;
    canvas.height = rows * height * density;
    canvas.style.width = columns * width + "px";
    canvas.style.height = rows * height + "px";
    const context = canvas.getContext("2d");
    context.scale(density, density);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    const line = getComputedStyle(document.documentElement).getPropertyValue("--line");
    for (let r = 0; r < rows; ++r) {
      for (let c = 0; c < columns; ++c) {
        const value = map.values[r][c];
        if (value === null || value === undefined) continue;
        const colour = map.scale.colour(value);
        context.fillStyle = colour;
        context.fillRect(c * width, r * height, width, height);
        context.strokeStyle = line;
        context.lineWidth = 0.5;
        if (height > 6) context.strokeRect(c * width + 0.25, r * height + 0.25, width - 0.5, height - 0.5);
        if (!map.text) continue;
        context.fillStyle = inkOn(colour);
        context.save();
        context.beginPath();
        context.rect(c * width, r * height, width, height);
        context.clip();
        context.fillText(map.text(r, c), c * width + 4, r * height + height / 2 + 1);
        context.restore();
      }
    }
    if (map.marked) {
      for (let r = 0; r < rows; ++r) for (let c = 0; c < columns; ++c) if (map.marked(r, c)) outline(context, [r, c], "--mark", 4);
    } else if (chosen) {  // dark on light and light on dark, so that it is seen on any colour
      outline(context, chosen, "--ground", 4);
      outline(context, chosen, "--text", 2);
    }
    if (document.activeElement === canvas) outline(context, at, "--focus", 2);
  }
  function outline(context, [r, c], name, thick) {
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
    context.lineWidth = thick;
    context.strokeRect(c * width + thick / 2, r * height + thick / 2, width - thick, height - thick);
  }
  function cellOf(event) {
    const box = canvas.getBoundingClientRect();
    const cell = [Math.floor((event.clientY - box.top) / height), Math.floor((event.clientX - box.left) / width)];
    return cell[0] >= 0 && cell[0] < rows && cell[1] >= 0 && cell[1] < columns ? cell : null;
  }
  function isThere([r, c]) {
    return map.values[r][c] !== null && map.values[r][c] !== undefined;
  }
  // A wide heatmap scrolls sideways to a cell that is out of sight, beside the names of its rows.
  function reveal([, c]) {
    const names = canvas.offsetLeft, box = element.clientWidth, left = c * width;
    if (left < element.scrollLeft) element.scrollLeft = left - width;
    else if (names + left + width > element.scrollLeft + box) element.scrollLeft = names + left + 2 * width - box;
  }
  function choose(cell) {
    if (!map.choose || !isThere(cell)) return;
    at = chosen = cell;
    draw();
    if (element.isConnected) reveal(cell);
    else requestAnimationFrame(() => reveal(cell));
    map.choose(...cell);
  }

  canvas.addEventListener("pointermove", (event) => {
    const cell = cellOf(event);
    if (cell && isThere(cell)) showTip(map.tip(...cell), event.clientX, event.clientY);
    else hideTip();
  });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (cell) choose(cell);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return choose(at);
    }
    if (!step) return;
    event.preventDefault();
    at = [Math.min(rows - 1, Math.max(0, at[0] + step[0])), Math.min(columns - 1, Math.max(0, at[1] + step[1]))];
    draw();
    reveal(at);
    const box = canvas.getBoundingClientRect(), text = isThere(at) ? map.tip(...at) : "nothing here";
    showTip(text, box.left + at[1] * width, box.top + at[0] * height);
    say(text);
  });
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", () => { hideTip(); draw(); });
  onTheme(canvas, draw);

  const element = h("div", {class: "scroll"}, h("div", {class: "heatmap"},
    h("div", {class: "columns", style: `grid-template-columns: repeat(${columns}, ${width}px)`}, map.columns.map((name) => h("span", {}, name))),
    h("div", {class: "rows", style: `grid-template-rows: repeat(${rows}, ${height}px)`}, map.rows.map((name) => h("span", {}, name))),
    canvas));
  draw();
  return {element, draw, choose: (r, c) => choose([r, c])};
}

// A matrix without names in a few pixels, for a thumbnail.
function thumbnail(values, scale, size) {
  const canvas = h("canvas", {"aria-hidden": "true", style: `width: ${size}px; height: ${size}px; image-rendering: pixelated`});
  const draw = () => {
    canvas.width = values[0].length;
    canvas.height = values.length;
    const context = canvas.getContext("2d");
    values.forEach((row, r) => row.forEach((value, c) => {
      context.fillStyle = scale.colour(value);
      context.fillRect(c, r, 1, 1);
    }));
  };
  onTheme(canvas, draw);
  draw();
  return canvas;
}
