// Text in which something is strong: a line for each context, coloured by how strong it is at each token.
//   contextLines([{value, texts, values, peak, where: "line 3, token 5", before, after, also}], scale)
// before, after: the line goes on there.
function contextLines(contexts, scale) {
  return h("div", {class: "contexts"}, contexts.map((c) => h("div", {class: "context"},
    h("span", {class: "number"}, number(c.value)),
    h("span", {}, c.before ? h("span", {class: "quiet"}, "…") : null, colouredTokens(c.texts, c.values, scale, c.peak),
      c.after ? h("span", {class: "quiet"}, "…") : null, " ", h("span", {class: "quiet where"}, c.where), c.also ?? null))));
}

// Tokens that are raised and lowered, as bars: [{name, value}] each; null where it is not known.
function raisedAndLowered(raised, lowered) {
  if (!raised) return h("p", {class: "quiet"}, "This does not write to the residual stream, so the unembedding cannot read it.");
  const side = (title, items) => h("div", {}, h("h3", {}, title), bars(items, {label: title}));
  return h("div", {class: "pair"}, side("Logits raised most", raised), side("Logits lowered most", lowered));
}

// ---- tokens as the verbs give them, {id, token, value}: one, a few, and as bars
function tokenBox(t) {
  return h("span", {class: "token"}, visible(t.token ?? `#${t.id}`));
}
function tokenWords(tokens, most) {
  return tokens ? tokens.slice(0, most).map((t) => [tokenBox(t), " "]) : "–";
}
function tokenBars(tokens) {
  return tokens?.map((t) => ({name: visible(t.token ?? `#${t.id}`), value: t.value}));
}
