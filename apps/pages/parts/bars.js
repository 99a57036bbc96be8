// Numbers as bars from a common zero line: bars([{name, value, tip, choose}], {text}). A bar with `choose` has a button
// for a name, which opens what it is made of.
function bars(items, {text = signed, label = "bars"} = {}) {
  const most = Math.max(0, ...items.map((item) => item.value)), least = Math.min(0, ...items.map((item) => item.value));
  const span = most - least || 1, zero = -least / span;
  return h("div", {class: "bars", role: "list", "aria-label": label}, items.map((item) => {
    const [from, to] = [zero + Math.min(0, item.value) / span, zero + Math.max(0, item.value) / span];
    const bar = h("span", {class: "bar"},
      h("i", {style: `left: ${100 * from}%; width: ${100 * (to - from)}%; background: rgb(var(--${item.value < 0 ? "less" : "more"}))`}),
      h("b", {style: `left: ${100 * zero}%`}));
    if (item.tip) withTip(bar, () => item.tip);
    return [
      item.choose ? h("button", {type: "button", onclick: item.choose, "aria-expanded": item.open ? "true" : "false"}, item.name) : h("span", {}, item.name),
      bar,
      h("span", {class: "number"}, text(item.value)),
    ];
  }));
}
