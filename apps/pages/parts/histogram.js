// How often values lie in bins of equal width: histogram({counts, least, most, x: "activation", label, tip: (k) => text}).
function histogram(spec) {
  const [width, height, left, bottom, top] = [spec.width ?? 420, spec.height ?? 150, 8, 34, 8];
  const most = Math.max(...spec.counts, 1), step = (width - 2 * left) / spec.counts.length;
  const place = (value) => left + (value - spec.least) / (spec.most - spec.least || 1) * (width - 2 * left);
  const root = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.label, style: `width: 100%; max-width: ${width}px`});
  spec.counts.forEach((count, k) => {
    const size = count / most * (height - bottom - top);
    root.append(svg("rect", {x: left + k * step + 0.5, y: height - bottom - size, width: Math.max(1, step - 1), height: size, fill: "rgb(var(--weight))"}),
      withTip(svg("rect", {x: left + k * step, y: top, width: step, height: height - bottom - top, fill: "transparent"}), () => spec.tip(k)));
  });
  root.append(svg("line", {class: "axis", x1: left, x2: width - left, y1: height - bottom, y2: height - bottom}));
  for (const mark of ticks(spec.least, spec.most)) {
    root.append(svg("text", {x: place(mark), y: height - bottom + 15, "text-anchor": mark === spec.least ? "start" : "middle"}, number(mark)));
  }
  root.append(svg("text", {class: "quiet", x: width / 2, y: height - 4, "text-anchor": "middle"}, spec.x));
  return root;
}
