// What one does to a live model, a section each, and what is looked at besides the next token:
//   {element, edits: () => [text for --edit], asks: (body) => adds to the request, draw: (answer) => ...,
//    prompted: () => the prompt is another one, undo: () => takes the edits back}
// all but `element` may be missing. `live` is {model, prompt, second, position (null: the last), everywhere, changed, open}.

// A part that is asked for only while it is open.
function liveSection(live, name, title, content, open, opened) {
  const box = h("details", {id: name, open}, h("summary", {}, title), content);
  if (open) live.open.add(name);
  box.addEventListener("toggle", () => {
    if (box.open === live.open.has(name)) return;
    if (box.open) live.open.add(name);
    else live.open.delete(name);
    opened?.();
    live.changed();
  });
  return box;
}

function nameOfToken(token) {
  return token.token === null ? String(token.id) : visible(token.token);
}

// A prompt as a field of a request: a text, or ids.
function promptField(prompt, text, ids) {
  return Array.isArray(prompt) ? {[ids]: prompt} : {[text]: prompt};
}

// The end of an edit that holds everywhere, or at the position that is looked at.
function whereOf(live) {
  return live.everywhere ? "" : ` pos=${live.position ?? -1}`;
}

function chooseWhere(live) {
  return choice("Steering and features hold at", ["every position", "the one looked at"], 0, (k) => {
    live.everywhere = k === 0;
    live.changed();
  });
}

// ---- heads and MLPs
function liveHeads(live) {
  const {layers, heads, tokenizer} = live.model, off = new Set();
  let mean = false, over = "The cat sat on the mat. She said that the capital of France is Paris, and he gave a book to Mary in 1990.";
  const grid = switchGrid({
    label: "heads and MLPs", off: (id) => (off.has(id) ? (mean ? "mean" : "zero") : null),
    rows: Array.from({length: layers}, (_, l) => ({name: `layer ${l}`, cells: [
      ...Array.from({length: heads}, (__, k) => ({id: `${l}.${k}`, text: String(k), label: `layer ${l}, head ${k}`})),
      {id: `${l}.mlp`, text: "MLP", label: `layer ${l}, MLP`}]})),
    press: (id) => {
      if (!off.delete(id)) off.add(id);
      live.changed();
    },
  });
  const text = h("input", {value: over, "aria-label": "text over whose tokens means are taken", oninput: () => {
    if (!text.value) return;
    over = text.value;
    if (off.size) live.changed(true);
  }});
  const textBox = h("label", {hidden: true, class: "wide"}, "mean over the tokens of", text);
  const by = tokenizer ? choice("What is off gives", ["zero", "its mean"], 0, (k) => {
    mean = k === 1;
    textBox.hidden = !mean;
    grid.draw();
    live.changed();
  }) : null;
  return {
    element: liveSection(live, "heads", "Switch heads and MLPs off", [by, textBox, grid.element], true),
    edits() {
      const list = [], [action, end] = mean ? ["mean", " " + editWord("over", over)] : ["zero", ""];
      for (let l = 0; l < layers; ++l) {
        const here = Array.from({length: heads}, (_, k) => k).filter((k) => off.has(`${l}.${k}`));
        if (here.length) list.push(`${action} ${l}.z head=${here.join(",")}${end}`);
        if (off.has(`${l}.mlp`)) list.push(`${action} ${l}.mlp_out${end}`);
      }
      return list;
    },
    undo() {
      off.clear();
      grid.draw();
    },
  };
}

// ---- patching
function livePatching(live) {
  const kSites = ["resid_pre", "attn_out", "mlp_out"], patches = new Map();
  const box = h("div", {id: "patch-map"}), problem = h("p", {class: "problem"}), caption = h("p");
  let site = kSites[0], map = null, timer = null;
  const second = h("textarea", {id: "second", rows: "2", spellcheck: "false", "aria-label": "second prompt", oninput: () => {
    live.second = second.value;
    const had = patches.size > 0;
    patches.clear();
    ask();
    if (had) live.changed(true);
  }});
  second.value = Array.isArray(live.second) ? live.second.join(", ") : live.second;
  const askServer = questions("/api/patch", {
    shown(found) {
      if (found.why_not === null) return draw(found);
      none(`No map: ${found.why_not}.\n` + [found.str_tokens, found.second_str_tokens].map((texts) => texts.map(visible).join(" | ")).join("\n"));
    },
    failed: none,
  });
  function ask() {
    if (live.open.has("patch") && live.prompt.length && live.second.length)
      askServer({...promptField(live.prompt, "prompt", "tokens"), second: live.second, site}, true);
  }
  function none(why) {
    problem.textContent = why;
    show(box);
    show(caption);
    map = null;
  }
  function draw(found) {
    const scale = zeroCentred(found.changes, "change of the difference"), key = (r, c) => `${found.site} ${found.layers[r]} ${c}`;
    problem.textContent = "";
    show(caption, "The numbers are logit ", h("b", {}, nameOfToken(found.answer)), " − logit ", h("b", {}, nameOfToken(found.wrong)),
      `: ${number(found.clean)} after the prompt, ${number(found.corrupt)} after the second. `,
      "A cell shows how it changes when that place alone takes the second prompt's value; a press puts it in.");
    map = heatmap({
      label: "change of the logit difference by layer and position", values: found.changes, scale, cell: 24, width: 44,
      text: (r, c) => (Math.abs(found.changes[r][c]) < 0.05 ? "0" : signed(Number(found.changes[r][c].toFixed(1)))),
      rows: found.layers.map((l) => `layer ${l}`), columns: found.tokens.map((_, k) => tokenLabel(found, k)),
      tip: (r, c) => `layer ${found.layers[r]}, ${tokenLabel(found, c)}\ndifference ${number(found.values[r][c])}, change ${signed(found.changes[r][c])}`
        + (patches.has(key(r, c)) ? "\npatched" : ""),
      marked: (r, c) => patches.has(key(r, c)),
      choose: (r, c) => {
        if (!patches.delete(key(r, c))) patches.set(key(r, c), {site: found.site, layer: found.layers[r], position: c});
        map.draw();
        live.changed();
      },
    });
    show(box, scaleBar(scale), map.element);
  }
  return {
    ask,
    element: liveSection(live, "patch", "Patch from a second prompt", [
      h("label", {class: "wide"}, "second prompt, of as many tokens", second),
      h("div", {class: "controls"}, picker("what is patched", kSites, 0, (k) => { site = kSites[k]; ask(); })),
      problem, caption, box], true, ask),
    edits: () => [...patches.values()].map((p) => `patch ${p.layer}.${p.site} pos=${p.position} ${editWord("from", live.second)}`),
    // Once nobody types any more: what comes next is more urgent.
    prompted() {
      patches.clear();
      clearTimeout(timer);
      timer = setTimeout(ask, 150);
    },
    undo() {
      patches.clear();
      map?.draw();
    },
  };
}

// ---- steering
function liveSteering(live) {
  const directions = [], rows = h("div", {id: "directions"});
  function add(source) {
    const d = {...source, layer: Math.floor((live.model.layers - 1) / 2), factor: 0};
    const name = d.toward ? `toward ${visible(d.toward)}` : `${visible(d.plus)} − ${visible(d.minus)}`;
    const factor = slider({label: "factor of " + name, least: -10, most: 10, step: 0.1, value: 0, change: (x) => { d.factor = x; live.changed(); }});
    d.set = (x) => { d.factor = x; factor.set(x); };
    const row = h("div", {class: "adjust"}, h("span", {class: "what"}, name),
      picker("after layer", Array.from({length: live.model.layers}, (_, l) => String(l)), d.layer, (l) => { d.layer = l; live.changed(); }), factor.element,
      h("button", {type: "button", "aria-label": "remove " + name, onclick: () => { directions.splice(directions.indexOf(d), 1); row.remove(); live.changed(); }}, "×"));
    directions.push(d);
    rows.append(row);
  }
  const form = (act, ...fields) => h("form", {class: "controls", onsubmit: (event) => { event.preventDefault(); act(); }}, fields, h("button", {}, "add"));
  const toward = h("input", {id: "toward", size: "12", placeholder: "␣Austin"});
  const plus = h("input", {id: "plus", size: "18"}), minus = h("input", {id: "minus", size: "18"});
  add({plus: live.second, minus: live.prompt});
  return {
    element: liveSection(live, "steer", "Steer along directions", [
      h("p", {class: "quiet"}, "A direction is added to the stream after a layer, times the factor: the unembedding vector of a token (its leading space counts), or what the model holds after one text less what it holds after another."),
      rows,
      form(() => { if (toward.value) add({toward: toward.value}); }, h("label", {}, "toward the token", toward)),
      form(() => { if (plus.value && minus.value) add({plus: plus.value, minus: minus.value}); }, h("label", {}, "from", minus), h("label", {}, "to", plus)),
      chooseWhere(live)], true),
    edits: () => directions.filter((d) => d.factor).map((d) => {
      const source = d.toward ? editWord("toward", d.toward) : `${editWord("plus", d.plus)} ${editWord("minus", d.minus)}`;
      return `add ${d.layer}.resid_post ${source} factor=${d.factor}${whereOf(live)}`;
    }),
    undo: () => directions.forEach((d) => d.set(0)),
  };
}

// ---- features of SAEs
function liveFeatures(live) {
  const chosen = new Map();  // what is set: {site, feature, value} by "site feature"
  const boxes = live.model.saes.map((sae) => ({sae, rows: new Map(), list: h("div"), count: h("p", {class: "quiet"})}));
  let listed = "";

  function row(box, feature, activation) {
    const id = `${box.sae.site} ${feature}`, now = h("span", {class: "quiet number"});
    const value = slider({label: `feature ${feature} of ${box.sae.name}`, least: 0, most: Math.max(10, Math.ceil(3 * (activation ?? 0))), step: 0.1, value: 0,
      change: (x) => { chosen.set(id, {site: box.sae.site, feature, value: x}); element.classList.add("set"); live.changed(); }});
    const element = h("div", {class: "adjust", "data-feature": `${box.sae.site}/${feature}`}, h("span", {class: "what"}, `feature ${feature}`), now, value.element,
      h("button", {type: "button", "aria-label": `feature ${feature} as it is`, onclick: () => { if (chosen.delete(id)) { unset(); live.changed(); } }}, "as it is"));
    let last = activation;
    const asItIs = () => value.set(Number((last ?? 0).toFixed(2)));
    function unset() {
      element.classList.remove("set");
      asItIs();
    }
    function update(x) {
      last = x;
      now.textContent = `is ${number(x)}`;  // "–" until the server has said it
      if (!chosen.has(id) && !element.contains(document.activeElement)) asItIs();
    }
    update(activation);
    if (chosen.has(id)) {
      value.set(chosen.get(id).value);
      element.classList.add("set");
    }
    box.rows.set(feature, {element, unset, update});
    return element;
  }
  function drawSae(answer, found, box, fresh) {
    const known = new Map([...found.watched, ...found.strongest].map((f) => [f.feature, f.activation]));
    box.count.textContent = `${number(found.active)} of ${number(box.sae.features)} features are active at ${tokenLabel(answer, answer.position)}; the strongest:`;
    // Rows stay where they are while one moves them.
    if (!fresh) return box.rows.forEach((one, feature) => one.update(known.get(feature) ?? null));
    box.rows.clear();
    const strongest = found.strongest.map((f) => f.feature);
    const set = [...chosen.values()].filter((f) => f.site === box.sae.site && !strongest.includes(f.feature)).map((f) => f.feature);
    show(box.list, [...set, ...strongest].map((feature) => row(box, feature, known.get(feature) ?? null)));
  }
  function add(box, feature) {
    if (!Number.isInteger(feature) || feature < 0 || feature >= box.sae.features) return;
    if (!box.rows.has(feature)) {
      box.list.prepend(row(box, feature, null));
      live.changed();
    }
    box.rows.get(feature).element.querySelector("input").focus();
  }
  function another(box) {
    const which = h("input", {type: "number", min: 0, max: box.sae.features - 1});
    return h("form", {class: "controls", onsubmit: (event) => { event.preventDefault(); add(box, which.valueAsNumber); }},
      h("label", {}, "another feature", which), h("button", {}, "add"));
  }
  return {
    element: liveSection(live, "features", "Set features of SAEs", [
      boxes.map((box) => [h("h3", {}, box.sae.name), box.count, box.list, another(box)]),
      live.model.tokenizer ? null : chooseWhere(live)], true),
    edits: () => [...chosen.values()].map((f) => `set ${f.site} feature=${f.feature} to=${f.value}${whereOf(live)}`),
    asks(body) {
      if (!live.open.has("features")) return;
      body.features = 12;
      body.watched = boxes.map((box) => [...box.rows.keys()]);
    },
    draw(answer) {
      if (!answer.features) return;
      const of = JSON.stringify([answer.tokens, answer.position]), fresh = of !== listed;
      listed = of;
      answer.features.forEach((found, k) => drawSae(answer, found, boxes[k], fresh));
    },
    undo() {
      chosen.clear();
      boxes.forEach((box) => box.rows.forEach((one) => one.unset()));
    },
  };
}

// ---- attention and the lens
function liveAttention(live) {
  const box = h("div"), numbers = (n) => Array.from({length: n}, (_, k) => String(k));
  let of = {layer: 0, head: 0};
  const pick = (name, count) => picker(name, numbers(count), 0, (k) => { of = {...of, [name]: k}; live.changed(); });
  return {
    element: liveSection(live, "attention", "Attention of a head", [h("div", {class: "controls"}, pick("layer", live.model.layers), pick("head", live.model.heads)), box], false),
    asks(body) {
      if (live.open.has("attention")) body.attention = of;
    },
    draw(answer) {
      const found = answer.attention;
      if (!found) return show(box);
      const names = answer.tokens.map((_, k) => tokenLabel(answer, k)), scale = fromZero(1, "attention");
      show(box, h("p", {class: "quiet"}, "The tokens above are coloured by how much the one that is looked at attends to them."), scaleBar(scale, percent),
        found.pattern ? heatmap({
          label: `attention of layer ${found.layer}, head ${found.head}`, rows: names, columns: names, scale,
          values: found.pattern.map((row, q) => row.map((x, k) => (k <= q ? x : null))),
          tip: (q, k) => `${names[q]} → ${names[k]}\n${percent(found.pattern[q][k])}`,
        }).element : h("p", {class: "quiet"}, "The prompt is long: the row of the token that is looked at is all that is shown."));
    },
  };
}

function liveLens(live) {
  const rows = h("tbody");
  return {
    element: liveSection(live, "lens", "Logit lens: what each layer would say", h("div", {class: "scroll"}, h("table", {"aria-label": "logit lens"}, rows)), false),
    asks(body) {
      if (live.open.has("lens")) body.lens = true;
    },
    draw(answer) {
      show(rows, (answer.lens ?? []).map((stage) => h("tr", {}, h("th", {scope: "row"}, stage.stage),
        stage.top.map((t) => h("td", {}, h("span", {class: "token"}, nameOfToken(t)), " ", h("span", {class: "quiet"}, percent(t.prob)))))));
    },
  };
}
