// Numbers as bars from a common zero line:
//   bars([{name, value, tip, choose, open, level, from}], {text, label, colour: "weight"})
// A bar with `choose` has a button for a name, which opens what it is made of, `level` steps further in. One with `from`
// begins there and not at zero, as in a waterfall. Colours say the sign, unless one is given.
function bars(items, {text = signed, label = "bars", colour = null} = {}) {
  const ends = items.flatMap((item) => [item.from ?? 0, (item.from ?? 0) + item.value]);
  const most = Math.max(0, ...ends), least = Math.min(0, ...ends);
  const span = most - least || 1, place = (x) => 100 * (x - least) / span;
  return h("div", {class: "bars", role: "list", "aria-label": label}, items.map((item) => {
    const from = item.from ?? 0, [left, right] = [Math.min(from, from + item.value), Math.max(from, from + item.value)];
    const bar = h("span", {class: "bar"},
      h("i", {style: `left: ${place(left)}%; width: ${place(right) - place(left)}%; background: rgb(var(--${colour ?? (item.value < 0 ? "less" : "more")}))`}),
      h("b", {style: `left: ${place(0)}%`}));
    if (item.tip) withTip(bar, () => item.tip);
    const step = item.level ? `margin-left: ${item.level}rem` : null;
    return [
      item.choose ? h("button", {type: "button", onclick: item.choose, style: step, "aria-expanded": item.open ? "true" : "false"}, item.name)
                  : h("span", {class: "name", style: step}, item.name),
      bar,
      h("span", {class: "number"}, text(item.value)),
    ];
  }));
}
