// The live page: `serve`. data: {model: {name, layers, heads, tokenizer, most_tokens, saes}, prompt, second}; a prompt is a
// text, or ids where the model has no tokenizer. All that is shown comes from the server, /api/run and /api/patch; an edit is
// sent as it is typed for --edit.
views.serve = (data, root) => {
  const model = data.model, layers = Array.from({length: model.layers}, (_, l) => l);
  const state = {
    prompt: data.prompt, second: data.second, position: null,  // null: the last
    off: new Set(), by: "zero", over: "The cat sat on the mat. She said that the capital of France is Paris, and he gave a book to Mary in 1990.",
    patches: new Map(), site: "resid_pre", directions: [], features: new Map(), everywhere: true,
    attention: {layer: 0, head: 0}, open: new Set(),
  };
  let result = null;

  // ---- asking
  const ask = questions("/api/run", {shown: (answer, time) => { result = answer; render(time); }, failed: complain});
  function changed(now = false) {
    if (state.prompt.length === 0) return complain("The prompt is empty; type at least one token.");
    const body = {...promptBody(state.prompt, "prompt", "tokens"), edits: edits(), position: state.position ?? -1, top: 10};
    if (state.open.has("features")) body.features = 12;
    if (state.open.has("lens")) body.lens = true;
    if (state.open.has("attention")) body.attention = state.attention;
    ask(body, now);
  }
  function promptBody(prompt, text, ids) {
    return Array.isArray(prompt) ? {[ids]: prompt} : {[text]: prompt};
  }
  // What is typed is a text, or ids with commas or spaces between.
  function typed(text) {
    return model.tokenizer ? text : text.split(/[\s,]+/).filter((word) => word).map(Number);
  }
  const asText = (prompt) => (Array.isArray(prompt) ? prompt.join(", ") : prompt);

  // ---- the edits, as texts
  function edits() {
    const list = [], how = state.by === "mean" ? ["mean", " " + editWord("over", state.over)] : ["zero", ""];
    for (const l of layers) {
      const heads = Array.from({length: model.heads}, (_, k) => k).filter((k) => state.off.has(`${l}.${k}`));
      if (heads.length) list.push(`${how[0]} ${l}.z head=${heads.join(",")}${how[1]}`);
      if (state.off.has(`${l}.mlp`)) list.push(`${how[0]} ${l}.mlp_out${how[1]}`);
    }
    for (const {layer, site, position} of state.patches.values())
      list.push(`patch ${layer}.${site} pos=${position} ${editWord("from", state.second)}`);
    const where = state.everywhere ? "" : ` pos=${state.position ?? -1}`;
    for (const d of state.directions) {
      if (!d.factor) continue;
      const source = d.toward ? editWord("toward", d.toward) : `${editWord("plus", d.plus)} ${editWord("minus", d.minus)}`;
      list.push(`add ${d.layer}.resid_post ${source} factor=${d.factor}${where}`);
    }
    for (const {site, feature, value} of state.features.values()) list.push(`set ${site} feature=${feature} to=${value}${where}`);
    return list;
  }

  // ---- the prompt
  const promptBox = h("textarea", {id: "prompt", rows: "2", spellcheck: "false", "aria-label": "prompt", oninput: () => {
    state.prompt = typed(promptBox.value);
    state.position = null;
    state.patches.clear();
    changed(true);
    patching.askSoon();
  }});
  promptBox.value = asText(data.prompt);
  const problem = h("p", {class: "problem", role: "alert"}), status = h("span", {class: "quiet", id: "status"});
  const stripBox = h("div");
  let strip = null, stripOf = "";
  function drawStrip() {
    const now = JSON.stringify(result.tokens);
    if (now !== stripOf) {
      stripOf = now;
      strip = tokenStrip(result, result.position, (at) => {
        if (at !== strip.locked()) return;  // a pointer that rests there while one types is no question
        const position = at === result.tokens.length - 1 ? null : at;
        if (position === state.position) return;
        state.position = position;
        changed();
      });
      show(stripBox, strip.element);
    }
    if (result.attention) strip.paint(fromZero(1), result.attention.row.map((x, k) => (k <= result.position ? x : null)), percent);
    else strip.paint(fromZero(1), result.tokens.map(() => null));
  }
  function complain(text) {
    problem.textContent = text;
  }

  // ---- what comes next
  const sentence = h("p", {id: "sentence", "aria-live": "polite"}), next = h("tbody"), command = h("span", {class: "command", id: "command"}), made = h("ul", {id: "edits"});
  function nameOf(token) {
    return token.token === null ? String(token.id) : visible(token.token);
  }
  function drawNext() {
    const edited = result.edits.length > 0, ids = new Set(result.top.map((t) => t.id));
    const gone = edited ? result.clean.slice(0, 3).filter((t) => !ids.has(t.id)) : [];
    const first = result.top[0];
    show(sentence, "After ", h("b", {}, tokenLabel(result, result.position)), " comes ", h("b", {}, nameOf(first)), ` ${percent(first.prob)}`,
      edited ? [", unedited ", h("b", {}, nameOf(result.clean[0])), ` ${percent(result.clean[0].clean_prob)}`, `; ${number(result.kl)} nats apart (KL)`] : null);
    show(next, [...result.top, ...gone].map((t, k) => h("tr", {"data-token": t.id, class: k >= result.top.length ? "gone" : null},
      h("td", {}, h("span", {class: "token"}, nameOf(t))),
      h("td", {class: "share"}, withTip(h("span", {class: "bar"}, h("i", {style: `width: ${100 * t.prob}%`}), edited ? h("b", {style: `left: ${100 * t.clean_prob}%`}) : null),
        () => `${nameOf(t)}\nnow ${percent(t.prob)}, logit ${number(t.logit)}\nunedited ${percent(t.clean_prob)}, logit ${number(t.clean_logit)}`)),
      h("td", {class: "number"}, percent(t.prob)), h("td", {class: "number"}, t.logit.toFixed(2)),
      h("td", {class: "number"}, edited ? signed(Number(t.logit_change.toFixed(2))) : "–"))));
  }
  function drawEdits() {
    command.textContent = commandText({command: result.command});
    show(made, result.edits.length ? result.edits.map((text) => h("li", {}, h("code", {}, text))) : h("li", {class: "quiet"}, "no edits: the model as it is"));
  }
  const clear = h("button", {type: "button", id: "clear", onclick: () => {
    state.off.clear();
    state.patches.clear();
    state.features.clear();
    for (const d of state.directions) d.set(0);
    switches.draw();
    patching.draw();
    features.reset();
    changed(true);
  }}, "undo all edits");
  const copy = h("button", {type: "button", onclick: () => {
    navigator.clipboard?.writeText(command.textContent).then(() => { copy.textContent = "copied"; setTimeout(() => { copy.textContent = "copy"; }, 1500); }, () => {});
  }}, "copy");

  function render(time) {
    problem.textContent = "";
    status.textContent = `${Math.round(time)} ms`;
    drawStrip();
    drawNext();
    drawEdits();
    // What comes next is on the screen first.
    const mine = result;
    requestAnimationFrame(() => setTimeout(() => {
      if (mine !== result) return;
      features.render();
      attention.render();
      lens.render();
    }));
  }

  // A part that is asked for only while it is open.
  function section(name, title, content, open, opened) {
    const box = h("details", {id: name, open}, h("summary", {}, title), content);
    if (open) state.open.add(name);
    box.addEventListener("toggle", () => {
      if (box.open === state.open.has(name)) return;
      if (box.open) state.open.add(name);
      else state.open.delete(name);
      opened?.();
      changed();
    });
    return box;
  }

  // ---- heads and MLPs
  const switches = switchGrid({
    label: "heads and MLPs", off: (id) => (state.off.has(id) ? state.by : null),
    rows: layers.map((l) => ({name: `layer ${l}`, cells: [
      ...Array.from({length: model.heads}, (_, k) => ({id: `${l}.${k}`, text: String(k), label: `layer ${l}, head ${k}`})),
      {id: `${l}.mlp`, text: "MLP", label: `layer ${l}, MLP`}]})),
    press: (id) => { if (!state.off.delete(id)) state.off.add(id); changed(); },
  });
  const over = h("input", {value: state.over, "aria-label": "text over whose tokens means are taken", oninput: () => { state.over = over.value; if (state.by === "mean" && over.value) changed(true); }});
  const overBox = h("label", {hidden: true, class: "wide"}, "mean over the tokens of", over);
  const heads = section("heads", "Switch heads and MLPs off", [
    model.tokenizer ? choice("What is off gives", ["zero", "its mean"], 0, (k) => { state.by = k ? "mean" : "zero"; overBox.hidden = !k; switches.draw(); changed(); }) : null,
    overBox, switches.element], true);

  // ---- patching
  const patching = makePatching();
  function makePatching() {
    const box = h("div", {id: "patch-map"}), wrong = h("p", {class: "problem"}), caption = h("p");
    let found = null, map = null;
    const second = h("textarea", {id: "second", rows: "2", spellcheck: "false", "aria-label": "second prompt", oninput: () => {
      state.second = second.value;
      const had = state.patches.size > 0;
      state.patches.clear();
      askMap();
      if (had) changed(true);
    }});
    second.value = asText(data.second);
    const askServer = questions("/api/patch", {
      shown: (answer) => {
        found = answer;
        if (found.why_not === null) return drawMap();
        show(box);
        show(caption);
        wrong.textContent = `No map: ${found.why_not}.\n` +
          [found.str_tokens, found.second_str_tokens].map((texts) => texts.map(visible).join(" | ")).join("\n");
      },
      failed: (text) => { wrong.textContent = text; show(box); show(caption); },
    });
    function askMap() {
      if (state.open.has("patch") && state.prompt.length && state.second.length) askServer({...promptBody(state.prompt, "prompt", "tokens"), second: state.second, site: state.site}, true);
    }
    const key = (r, c) => `${found.site} ${found.layers[r]} ${c}`;
    const tenth = (x) => (Math.abs(x) < 0.05 ? "0" : signed(Number(x.toFixed(1))));
    function drawMap() {
      wrong.textContent = "";
      const scale = zeroCentred(found.changes, "change of the difference");
      show(caption, "The numbers are logit ", h("b", {}, nameOf(found.answer)), " − logit ", h("b", {}, nameOf(found.wrong)), `: ${number(found.clean)} after the prompt, ${number(found.corrupt)} after the second. A cell shows how it changes when that place alone takes the second prompt's value; a press puts it in.`);
      map = heatmap({
        label: "change of the logit difference by layer and position", values: found.changes, scale, cell: 24, width: 44, text: (r, c) => tenth(found.changes[r][c]),
        rows: found.layers.map((l) => `layer ${l}`), columns: found.tokens.map((_, k) => tokenLabel(found, k)),
        tip: (r, c) => `layer ${found.layers[r]}, ${tokenLabel(found, c)}\ndifference ${number(found.values[r][c])}, change ${signed(found.changes[r][c])}${state.patches.has(key(r, c)) ? "\npatched" : ""}`,
        marked: (r, c) => state.patches.has(key(r, c)),
        choose: (r, c) => {
          if (!state.patches.delete(key(r, c))) state.patches.set(key(r, c), {site: found.site, layer: found.layers[r], position: c});
          map.draw();
          changed();
        },
      });
      show(box, scaleBar(scale), map.element);
    }
    let timer = null;
    return {
      // Once nobody types any more: what comes next is more urgent.
      askSoon() {
        clearTimeout(timer);
        timer = setTimeout(askMap, 150);
      },
      ask: askMap, draw: () => map?.draw(),
      element: section("patch", "Patch from a second prompt", [
        h("label", {class: "wide"}, "second prompt, of as many tokens", second),
        h("div", {class: "controls"}, picker("what is patched", ["resid_pre", "attn_out", "mlp_out"], 0, (k) => { state.site = ["resid_pre", "attn_out", "mlp_out"][k]; askMap(); })),
        wrong, caption, box], model.tokenizer, askMap),
    };
  }

  // ---- steering
  const directions = h("div", {class: "rows", id: "directions"});
  function addDirection(d) {
    d.layer = Math.floor((model.layers - 1) / 2);
    d.factor = 0;
    const label = d.toward ? `toward ${visible(d.toward)}` : `${visible(d.plus)} − ${visible(d.minus)}`;
    const factor = slider({label: "factor of " + label, least: -10, most: 10, step: 0.1, value: 0, change: (x) => { d.factor = x; changed(); }});
    d.set = (x) => { d.factor = x; factor.set(x); };
    const row = h("div", {class: "adjust"}, h("span", {class: "what"}, label),
      picker("after layer", layers.map(String), d.layer, (l) => { d.layer = l; changed(); }), factor.element,
      h("button", {type: "button", "aria-label": "remove " + label, onclick: () => { state.directions.splice(state.directions.indexOf(d), 1); row.remove(); changed(); }}, "×"));
    state.directions.push(d);
    directions.append(row);
  }
  const everywhere = () => choice("Steering and features hold at", ["every position", "the one looked at"], state.everywhere ? 0 : 1, (k) => { state.everywhere = k === 0; changed(); });
  const toward = h("input", {id: "toward", size: "12", "aria-label": "token to steer toward", placeholder: "␣Austin"});
  const plus = h("input", {id: "plus", size: "18", "aria-label": "steer from the second to this text"}), minus = h("input", {id: "minus", size: "18", "aria-label": "steer away from this text"});
  const steering = section("steer", "Steer along directions", model.tokenizer ? [
    h("p", {class: "quiet"}, "A direction is added to the stream after a layer, times the factor: the unembedding vector of a token (its leading space counts), or what the model holds after one text less what it holds after another."),
    directions,
    h("form", {class: "controls", onsubmit: (event) => { event.preventDefault(); if (toward.value) addDirection({toward: toward.value}); }}, h("label", {}, "toward the token", toward), h("button", {}, "add")),
    h("form", {class: "controls", onsubmit: (event) => { event.preventDefault(); if (plus.value && minus.value) addDirection({plus: plus.value, minus: minus.value}); }},
      h("label", {}, "from", minus), h("label", {}, "to", plus), h("button", {}, "add")),
    everywhere()] : h("p", {}, "Directions are named by texts, and this model has no tokenizer."), model.tokenizer);

  // ---- features
  const features = makeFeatures();
  function makeFeatures() {
    const boxes = model.saes.map((sae) => ({sae, rows: new Map(), list: h("div", {class: "rows"}), count: h("p", {class: "quiet"})}));
    let listed = "";
    function row(box, feature, activation) {
      const id = `${box.sae.site} ${feature}`, now = h("span", {class: "quiet number"});
      const value = slider({label: `feature ${feature} of ${box.sae.name}`, least: 0, most: Math.max(10, Math.ceil(3 * activation)), step: 0.1, value: Number(activation.toFixed(2)),
        change: (x) => { state.features.set(id, {site: box.sae.site, feature, value: x}); element.classList.add("set"); changed(); }});
      const element = h("div", {class: "adjust", "data-feature": `${box.sae.site}/${feature}`}, h("span", {class: "what"}, `feature ${feature}`), now, value.element,
        h("button", {type: "button", "aria-label": `feature ${feature} as it is`, onclick: () => { if (state.features.delete(id)) { unset(); changed(); } }}, "as it is"));
      let last = activation;
      function unset() {
        element.classList.remove("set");
        value.set(Number(last.toFixed(2)));
      }
      const one = {element, unset, update(x) {
        last = x;
        now.textContent = `is ${number(x)}`;
        if (!state.features.has(id)) value.set(Number(x.toFixed(2)));
      }};
      one.update(activation);
      if (state.features.has(id)) { value.set(state.features.get(id).value); element.classList.add("set"); }
      box.rows.set(feature, one);
      return element;
    }
    function render() {
      if (!result.features) return;
      const of = JSON.stringify([result.tokens, result.position]), fresh = of !== listed;
      listed = of;
      result.features.forEach((found, k) => {
        const box = boxes[k], active = new Map(found.strongest.map((f) => [f.feature, f.activation]));
        box.count.textContent = `${found.active} of ${number(box.sae.features)} features are active at ${tokenLabel(result, result.position)}; the strongest:`;
        if (!fresh) return box.rows.forEach((one, feature) => one.update(active.get(feature) ?? 0));
        box.rows.clear();
        const set = [...state.features.values()].filter((f) => f.site === box.sae.site && !active.has(f.feature));
        show(box.list, set.map((f) => row(box, f.feature, 0)), [...active].map(([feature, activation]) => row(box, feature, activation)));
      });
    }
    function add(box, feature) {
      if (!Number.isInteger(feature) || feature < 0 || feature >= box.sae.features) return;
      if (!box.rows.has(feature)) box.list.prepend(row(box, feature, 0));
      box.rows.get(feature).element.querySelector("input").focus();
    }
    return {
      render, reset: () => boxes.forEach((box) => box.rows.forEach((one) => one.unset())),
      element: model.saes.length === 0 ? null : section("features", "Set features of SAEs", [boxes.map((box) => {
        const which = h("input", {type: "number", min: 0, max: box.sae.features - 1, "aria-label": `a feature of ${box.sae.name}`});
        return [h("h3", {}, box.sae.name), box.count, box.list,
          h("form", {class: "controls", onsubmit: (event) => { event.preventDefault(); add(box, which.valueAsNumber); }}, h("label", {}, "another feature", which), h("button", {}, "add"))];
      }), model.tokenizer ? null : everywhere()], true),
    };
  }

  // ---- attention and lens
  const attention = (() => {
    const box = h("div");
    function render() {
      const found = result.attention;
      if (!found) return show(box);
      const names = result.tokens.map((_, k) => tokenLabel(result, k)), scale = fromZero(1, "attention");
      show(box, h("p", {class: "quiet"}, "The tokens above are coloured by how much the one that is looked at attends to them."), scaleBar(scale, percent), found.pattern ? heatmap({
        label: `attention of layer ${found.layer}, head ${found.head}`, values: found.pattern.map((row, q) => row.map((x, k) => (k <= q ? x : null))), rows: names, columns: names, scale,
        tip: (q, k) => `${names[q]} → ${names[k]}\n${percent(found.pattern[q][k])}`, choose: (q) => strip.lock(q)}).element : h("p", {class: "quiet"}, "The prompt is long: the row of the token that is looked at is all that is shown."));
    }
    return {render, element: section("attention", "Attention of a head", [h("div", {class: "controls"},
      picker("layer", layers.map(String), 0, (l) => { state.attention = {...state.attention, layer: l}; changed(); }),
      picker("head", Array.from({length: model.heads}, (_, k) => String(k)), 0, (k) => { state.attention = {...state.attention, head: k}; changed(); })), box], false)};
  })();
  const lens = (() => {
    const rows = h("tbody");
    return {
      render() {
        show(rows, (result.lens ?? []).map((stage) => h("tr", {}, h("th", {scope: "row"}, stage.stage), stage.top.map((t) => h("td", {}, h("span", {class: "token"}, nameOf(t)), " ", h("span", {class: "quiet"}, percent(t.prob)))))));
      },
      element: section("lens", "Logit lens: what each layer would say", h("div", {class: "scroll"}, h("table", {"aria-label": "logit lens"}, rows)), false),
    };
  })();

  if (model.tokenizer) addDirection({plus: asText(data.second), minus: asText(data.prompt)});
  root.append(pageHead(`${model.name}, live`, null),
    h("div", {class: "live"},
      h("div", {}, h("label", {class: "wide", for: "prompt"}, model.tokenizer ? "prompt" : "prompt, as token ids"), promptBox, problem, stripBox,
        heads, patching.element, steering, features.element, attention.element, lens.element),
      h("div", {class: "watch"}, h("h2", {}, "Next token ", status), sentence,
        h("div", {class: "scroll"}, h("table", {class: "next", "aria-label": "most probable next tokens"},
          h("thead", {}, h("tr", {}, ["token", "", "probability", "logit", "change"].map((title, k) => h("th", {scope: "col", class: k > 1 ? "number" : null}, title)))), next)),
        h("h3", {}, "Edits"), made, h("div", {class: "controls"}, clear),
        h("h3", {}, "The same in the terminal"), h("div", {class: "made"}, command, " ", copy))));
  changed(true);
  patching.ask();
};
