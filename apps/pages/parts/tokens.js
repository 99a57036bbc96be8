// Tokens of a prompt, as text that shows its spaces and line ends.

// The text of a token; of a model without a tokenizer its id.
function tokenText(data, position) {
  const texts = data.str_tokens;
  return texts ? visible(texts[position]) : String(data.tokens[position]);
}

function visible(text) {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
}

// "4 ` is`", the position and the token.
function tokenLabel(data, position) {
  return position + " " + tokenText(data, position);
}

// A strip of tokens, one of which is looked at: that under the pointer, else the one that was clicked ("locked"), else
// `first`. Arrow keys, Home and End move the lock. `look(position)` is called whenever it changes; colour(values) paints
// the tokens.
//   const strip = tokenStrip(data, data.tokens.length - 1, (position) => ...); strip.element; strip.paint(scale, values)
function tokenStrip(data, first, look) {
  let locked = first;
  const tokens = data.tokens.map((_, position) => h("button", {
    type: "button", class: "token", "data-position": position, tabindex: position === first ? "0" : "-1",
    onpointerenter: () => look(position),
    onpointerleave: () => look(locked),
    onclick: () => lock(position),
    onkeydown: (event) => {
      const to = {ArrowLeft: position - 1, ArrowRight: position + 1, Home: 0, End: data.tokens.length - 1}[event.key];
      if (to === undefined || to < 0 || to >= data.tokens.length) return;
      event.preventDefault();
      lock(to);
      tokens[to].focus();
    },
  }, tokenText(data, position)));
  function mark(position) {
    locked = position;
    tokens.forEach((token, k) => {
      token.classList.toggle("locked", k === position);
      token.setAttribute("aria-pressed", k === position);
      token.tabIndex = k === position ? 0 : -1;
    });
  }
  function lock(position) {
    mark(position);
    look(position);
    say(tokenLabel(data, position));
  }
  const element = h("div", {class: "tokens", role: "group", "aria-label": "tokens; arrow keys move"}, tokens);
  mark(first);
  return {
    element,
    lock,
    locked: () => locked,
    paint(scale, values, text = number) {
      tokens.forEach((token, k) => {
        const colour = values[k] === null || values[k] === undefined ? "" : scale.colour(values[k]);
        token.style.background = colour;
        token.style.color = colour ? inkOn(colour) : "";
        token.title = values[k] === null || values[k] === undefined ? "" : text(values[k]);
      });
    },
  };
}

// Tokens that are only read, each on the colour of its value.
function colouredTokens(texts, values, scale, peak = -1) {
  return h("span", {class: "tokens"}, texts.map((text, k) => {
    const colour = values[k] ? scale.colour(values[k]) : "";
    return withTip(h("span", {
      class: k === peak ? "token peak" : "token", style: colour ? `background: ${colour}; color: ${inkOn(colour)}` : null,
    }, visible(text)), () => `${visible(text)} ${number(values[k])}`);
  }));
}
