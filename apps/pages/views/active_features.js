// The features that are active on a prompt: `sae features --prompt`. data.active: [{position, feature, activation}];
// data.writes[feature]: the tokens that it raises and lowers.
views.active_features = (data, root) => {
  const of = (position) => data.active.filter((a) => a.position === position);
  const most = Math.max(...data.active.map((a) => a.activation), 0), scale = fromZero(most, "activation");
  let position = data.tokens.length - 1, chosen = null;
  const strip = tokenStrip(data, position, (at) => { position = at; if (position === strip?.locked()) draw(); else preview(); });
  const title = h("h2"), bar = h("div"), list = h("div"), detail = h("section", {"aria-label": "the chosen feature"}), mode = h("p", {"aria-live": "polite"});

  onTheme(list, () => draw());
  function paint() {
    show(bar, scaleBar(scale));
    const values = data.tokens.map((_, k) => {
      if (chosen === null) return of(k).length ? Math.max(...of(k).map((a) => a.activation)) : null;
      return of(k).find((a) => a.feature === chosen)?.activation ?? null;
    });
    strip.paint(scale, values);
    show(mode, chosen === null ? "Each token is coloured by its strongest feature." : ["Each token is coloured by feature ", h("b", {}, String(chosen)), ". ",
      h("button", {type: "button", onclick: () => choose(null)}, "show the strongest instead")]);
  }
  function preview() {
    drawList();
  }
  function draw() {
    drawList();
    paint();
  }
  function drawList() {
    const here = of(position);
    title.textContent = `At ${tokenLabel(data, position)}: ${here.length} active feature${here.length === 1 ? "" : "s"}`;
    const rows = table({label: "active features", rows: here, choose: (a) => { if (a.feature !== chosen) choose(a.feature); }, columns: [
      {title: "feature", number: true, value: (a) => a.feature, cell: (a) => String(a.feature)},
      {title: "activation", number: true, value: (a) => a.activation},
      {title: "raises", value: (a) => data.writes?.[a.feature]?.raised[0].value ?? 0, cell: (a) => tokenWords(data.writes?.[a.feature]?.raised, 5)}]});
    show(list, here.length ? rows.element : h("p", {class: "quiet"}, "None."));
  }
  function choose(feature) {
    chosen = feature;
    paint();
    if (feature === null) return show(detail);
    const w = data.writes?.[feature], active = data.active.filter((a) => a.feature === feature);
    show(detail, h("h2", {}, `Feature ${feature}`),
      h("p", {}, "Active at ", active.map((a, k) => [k ? ", " : "", tokenLabel(data, a.position), " ", h("b", {}, number(a.activation))])),
      raisedAndLowered(tokenBars(w?.raised), tokenBars(w?.lowered)));
  }
  root.append(pageHead("Features on a prompt", data.meta),
    h("p", {}, `Features of the SAE ${data.sae} at ${data.site}. Point at a token to see its features; a click keeps it, arrow keys move on. Choose a feature to see where it is active and what it writes.`),
    strip.element, mode, bar, title, list, detail);
  draw();
};
