// Curves and points in a frame with marked axes.
//   plot({series: [{name, points: [[x, y], ...], dots: true, colour}], x: "step", y: "loss", logX, logY, label,
//         tip: (series, point) => text, choose: (series, index) => ..., names: ["embedding", ...] of x = 0, 1, ...,
//         cursor: true, legend: false})
// A series is a curve with a dot at each point; with dots: true it has no line, with dots: false no dots. With `cursor`,
// the pointer or the arrow keys move a line along the x axis, and the tip says where each curve is there.
function plot(spec) {
  const [width, height] = [spec.width ?? 640, spec.height ?? 320], [left, right, top, bottom] = [64, 16, 12, 44];
  const kColours = ["rgb(var(--less))", "rgb(var(--more))", "var(--quiet)", "var(--link)", "var(--mark)"];
  const all = spec.series.flatMap((series) => series.points).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  const axis = (index, log, from, to) => {
    const values = all.map((point) => point[index]).filter((v) => !log || v > 0).map((v) => (log ? Math.log10(v) : v));
    let [least, most] = range(values);
    if (!Number.isFinite(least)) [least, most] = [0, 1];
    if (least === most) [least, most] = [least - 0.5, most + 0.5];
    return {
      place: (v) => from + ((log ? Math.log10(v) : v) - least) / (most - least) * (to - from),
      marks: ticks(least, most).map((m) => (log ? 10 ** m : m)),
    };
  };
  const x = axis(0, spec.logX, left, width - right), y = axis(1, spec.logY, height - bottom, top);
  const root = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.label, style: `width: 100%; max-width: ${width}px`});
  const named = spec.names ? ticks(0, spec.names.length - 1, Math.min(spec.names.length, 8)).filter(Number.isInteger) : x.marks;
  for (const mark of named) {
    root.append(svg("line", {class: "grid", x1: x.place(mark), x2: x.place(mark), y1: top, y2: height - bottom}),
                svg("text", {x: x.place(mark), y: height - bottom + 16, "text-anchor": "middle"}, spec.names ? spec.names[mark] : number(mark)));
  }
  for (const mark of y.marks) {
    root.append(svg("line", {class: "grid", x1: left, x2: width - right, y1: y.place(mark), y2: y.place(mark)}),
                svg("text", {x: left - 8, y: y.place(mark) + 4, "text-anchor": "end"}, number(mark)));
  }
  root.append(svg("text", {x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle"}, spec.x),
              svg("text", {x: 14, y: (top + height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(top + height - bottom) / 2})`}, spec.y));
  spec.series.forEach((series, k) => {
    const colour = series.colour ?? kColours[k % kColours.length];
    const points = series.points.filter(([px, py]) => Number.isFinite(px) && Number.isFinite(py) && (!spec.logX || px > 0) && (!spec.logY || py > 0));
    if (!series.dots) root.append(svg("polyline", {fill: "none", style: `stroke: ${colour}`, "stroke-dasharray": series.dash || null, "stroke-width": 2, points: points.map(([px, py]) => `${x.place(px)},${y.place(py)}`).join(" ")}));
    if (series.dots === false || (!series.dots && (spec.cursor ? points.length > 1 : points.length > 200))) return;  // a long curve has no dots of its own
    points.forEach((point, index) => {
      const dot = svg("circle", {cx: x.place(point[0]), cy: y.place(point[1]), r: series.dots ? 4 : 3, style: `fill: ${colour}`});
      withTip(dot, () => (spec.tip ? spec.tip(series, point, index) : `${series.name}\n${spec.x} ${number(point[0])}\n${spec.y} ${number(point[1])}`));
      if (spec.choose) pressable(dot, () => spec.choose(series, index));
      root.append(dot);
    });
  });
  if (spec.cursor) addCursor();
  const legend = spec.series.length < 2 || spec.legend === false ? null : h("div", {class: "controls"}, spec.series.map((series, k) =>
    h("span", {}, h("i", {style: `display: inline-block; width: 1.25rem; height: .25rem; margin-right: .375rem; vertical-align: middle; background: ${series.colour ?? kColours[k % kColours.length]}`}), series.name)));
  return h("figure", {style: "margin: 0"}, legend, root);

  function addCursor() {
    const inLog = (point) => (!spec.logX || point[0] > 0) && (!spec.logY || point[1] > 0);
    const steps = [...new Set(all.filter(inLog).map(([px]) => px))].sort((a, b) => a - b);
    const line = svg("line", {class: "axis", y1: top, y2: height - bottom, visibility: "hidden"});
    let at = steps.length - 1;
    root.append(line);
    root.setAttribute("tabindex", "0");
    root.setAttribute("role", "application");
    const nearest = (points, px) => points.reduce((best, point) => (!best || Math.abs(point[0] - px) < Math.abs(best[0] - px) ? point : best), null);
    const look = (clientX, clientY) => {
      const px = steps[at], place = x.place(px);
      for (const name of ["x1", "x2"]) line.setAttribute(name, place);
      line.setAttribute("visibility", "visible");
      const lines = spec.series.map((series) => [series, nearest(series.points.filter(inLog), px)]).filter(([, point]) => point)
        .map(([series, point]) => `${series.name}: ${number(point[1])}${point[0] === px ? "" : ` (at ${point[0].toLocaleString("en")})`}`);
      const text = `${spec.x} ${px.toLocaleString("en")}\n${lines.join("\n")}`, box = root.getBoundingClientRect();
      showTip(text, clientX ?? box.left + place / width * box.width, clientY ?? box.top + box.height / 3);
      return text;
    };
    const leave = () => { hideTip(); line.setAttribute("visibility", "hidden"); };
    root.addEventListener("pointermove", (event) => {
      if (!steps.length) return;
      const box = root.getBoundingClientRect(), px = (event.clientX - box.left) / box.width * width;
      at = steps.reduce((best, s, k) => (Math.abs(x.place(s) - px) < Math.abs(x.place(steps[best]) - px) ? k : best), 0);
      look(event.clientX, event.clientY);
    });
    root.addEventListener("pointerleave", leave);
    root.addEventListener("blur", leave);
    root.addEventListener("keydown", (event) => {
      const to = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1}[event.key];
      if (to === undefined || !steps.length) return;
      event.preventDefault();
      at = Math.min(steps.length - 1, Math.max(0, to));
      say(look());
    });
  }
}
