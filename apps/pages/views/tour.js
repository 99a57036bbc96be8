// The whole story: `tour`. data.steps: [{heading, told, claims: [{claim, holds}], commands, picture}].
views.tour = (data, root) => {
  const claims = data.steps.flatMap((step) => step.claims), held = claims.filter((claim) => claim.holds).length;
  root.append(pageHead("A tour of a model", data.meta),
    h("p", {}, `How it completes a fact, and why one may believe that. ${held} of ${claims.length} claims hold on this model; each step ends with the commands that give its numbers.`),
    h("nav", {"aria-label": "steps"}, h("ol", {}, data.steps.map((step, k) => h("li", {}, h("a", {href: `#step-${k + 1}`}, step.heading))))),
    ...data.steps.map((step, k) => tourStep(step, k + 1)));
};

function tourStep(step, number) {
  const lines = step.told.filter((line) => line.startsWith("  ")), words = step.told.filter((line) => !line.startsWith("  "));
  return h("section", {id: `step-${number}`}, h("h2", {}, `${number}. ${step.heading}`),
    words.map((text) => h("p", {}, text)),
    step.claims.map((claim) => h("p", {class: claim.holds ? "claim" : "claim denied"}, h("b", {}, claim.holds ? "✓ holds: " : "✗ does not hold: "), claim.claim)),
    tourPicture(step.picture),
    lines.length ? h("details", {}, h("summary", {}, "the numbers"), h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "the numbers"}, h("pre", {}, lines.map((line) => line.slice(2)).join("\n")))) : null,
    step.commands.length ? h("details", {}, h("summary", {}, step.commands.length === 1 ? "the command" : "the commands"),
      step.commands.map((command) => h("p", {}, h("span", {class: "command"}, command)))) : null);
}

function tourPicture(picture) {
  if (!picture) return null;
  const unit = h("p", {class: "quiet"}, picture.unit);
  if (picture.kind === "bars") return [unit, bars(picture.items, {label: picture.unit, text: picture.unit === "probability" ? percent : signed})];
  if (picture.kind === "curve") {
    const points = picture.items.map((item, k) => [k, item.value]);
    return plot({series: [{name: picture.unit, points}], x: "stage: embedding, then after each layer", y: picture.unit, label: picture.unit, width: 560, height: 260,
                 tip: (_, __, k) => `${picture.items[k].name}\n${number(picture.items[k].value)}\nfirst: ${visible(picture.items[k].token)}`});
  }
  if (picture.kind === "heatmap") {
    const scale = zeroCentred(picture.values, picture.unit);
    const columns = picture.columns.map((token, k) => `${k} ${visible(token)}`), rows = picture.values.map((_, l) => `before layer ${l}`);
    const map = heatmap({values: picture.values, rows, columns, scale, width: 40, label: picture.unit, cell: picture.values.length > 16 ? 16 : 24,
                         tip: (r, c) => `${rows[r]}, ${columns[c]}\n${percent(picture.values[r][c])}`});
    return [scaleBar(scale, percent), map.element];
  }
  if (picture.kind === "contexts") return h("div", {class: "row"}, picture.items.map((item) => h("div", {class: "panel", style: "flex: 1 1 18rem"}, h("h3", {}, item.name),
    item.contexts.map((context) => h("p", {style: "margin: 0 0 .25rem; overflow-wrap: anywhere; white-space: pre-wrap"},
      context.str_tokens.map((token, k) => (k === context.peak ? h("b", {class: "peak-token"}, visible(token)) : visible(token))))))));
  return null;
}
