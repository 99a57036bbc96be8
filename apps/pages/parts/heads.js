// Every head of a model as a small picture: a row for each layer, a button for each head.
//   headGrid({layers: [0, 1], heads: 8, picture: (layer, head) => element, name: (layer, head) => text, choose})
function headGrid(spec) {
  const buttons = new Map();
  const element = h("div", {class: "scroll"}, h("div", {class: "heads", role: "group", "aria-label": "heads; arrow keys move",
    style: `grid-template-columns: max-content repeat(${spec.heads}, max-content)`}, spec.layers.map((layer) => [
    h("span", {class: "layer"}, `layer ${layer}`),
    Array.from({length: spec.heads}, (_, head) => {
      const button = withTip(h("button", {type: "button", "aria-pressed": "false", "data-head": `${layer}.${head}`, onclick: () => choose(layer, head),
        onkeydown: (event) => {
          const [dl, dh] = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key] ?? [0, 0];
          const next = buttons.get(`${spec.layers[spec.layers.indexOf(layer) + dl]}.${head + dh}`);
          if (!next || next === button) return;
          event.preventDefault();
          next.focus();
        }}, spec.picture(layer, head), `${layer}.${head}`), () => spec.name(layer, head));
      buttons.set(`${layer}.${head}`, button);
      return button;
    }),
  ])));
  function choose(layer, head) {
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", name === `${layer}.${head}`);
    spec.choose(layer, head);
  }
  return {element, choose};
}
