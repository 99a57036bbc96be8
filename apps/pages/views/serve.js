// The live page: `serve`. data: {model: {name, layers, heads, tokenizer, saes}, prompt, second}; a prompt is a text, or ids
// where the model has no tokenizer. All that is shown comes from the server, /api/run and /api/patch; what one does is an
// edit, sent as it is typed for --edit.
views.serve = (data, root) => {
  const live = {model: data.model, prompt: data.prompt, second: data.second, position: null, everywhere: true, open: new Set(), changed};
  const tokenizer = live.model.tokenizer, next = liveNext(), made = h("ul", {id: "edits"}), command = h("span", {class: "command", id: "command"});
  const problem = h("p", {class: "problem", role: "alert"}), status = h("span", {class: "quiet", id: "status"}), stripBox = h("div");
  let strip = null, stripOf = "", newest = null;

  // Patches and directions are named by texts.
  const patching = tokenizer ? livePatching(live) : null;
  const sections = [liveHeads(live), patching, tokenizer ? liveSteering(live) : null, live.model.saes.length ? liveFeatures(live) : null,
                    liveAttention(live), liveLens(live)].filter((section) => section);

  // ---- asking
  const ask = questions("/api/run", {shown: draw, failed: complain});
  function changed(now = false) {
    if (live.prompt.length === 0) return complain("The prompt is empty; type at least one token.");
    const body = {...promptField(live.prompt, "prompt", "tokens"), position: live.position ?? -1, top: 10,
                  edits: sections.flatMap((section) => section.edits?.() ?? [])};
    for (const section of sections) section.asks?.(body);
    ask(body, now);
  }
  function complain(text) {
    problem.textContent = text;
  }
  const promptBox = h("textarea", {id: "prompt", rows: "2", spellcheck: "false", oninput: () => {
    live.prompt = tokenizer ? promptBox.value : promptBox.value.split(/[\s,]+/).filter((word) => word).map(Number);
    live.position = null;
    for (const section of sections) section.prompted?.();
    changed(true);
  }});
  promptBox.value = Array.isArray(live.prompt) ? live.prompt.join(", ") : live.prompt;

  // ---- showing
  function draw(answer, time) {
    newest = answer;
    problem.textContent = "";
    status.textContent = `${Math.round(time)} ms`;
    drawStrip(answer);
    next.draw(answer);
    command.textContent = commandText(answer);
    show(made, answer.edits.length ? answer.edits.map((text) => h("li", {}, h("code", {}, text))) : h("li", {class: "quiet"}, "no edits: the model as it is"));
    // What comes next is on the screen first. (No requestAnimationFrame: a tab in the background has none.)
    setTimeout(() => {
      if (answer === newest) for (const section of sections) section.draw?.(answer);
    }, 20);
  }
  function drawStrip(answer) {
    const of = JSON.stringify(answer.tokens);
    if (of !== stripOf) {
      stripOf = of;
      strip = tokenStrip(answer, answer.position, (at) => {
        if (at !== strip.locked()) return;  // a pointer that rests there while one types is no question
        const position = at === answer.tokens.length - 1 ? null : at;
        if (position === live.position) return;
        live.position = position;
        changed();
      });
      show(stripBox, strip.element);
    }
    const row = answer.attention?.row;
    strip.paint(fromZero(1), answer.tokens.map((_, k) => (row && k <= answer.position ? row[k] : null)), percent);
  }
  const undo = h("button", {type: "button", id: "clear", onclick: () => {
    for (const section of sections) section.undo?.();
    changed(true);
  }}, "undo all edits");
  const copy = h("button", {type: "button", onclick: () => {
    const back = () => setTimeout(() => { copy.textContent = "copy"; }, 1500);
    navigator.clipboard?.writeText(command.textContent).then(() => { copy.textContent = "copied"; back(); }, () => {});
  }}, "copy");

  root.append(pageHead(`${live.model.name}, live`, null), h("div", {class: "live"},
    h("div", {class: "ask"}, h("label", {class: "wide", for: "prompt"}, tokenizer ? "prompt" : "prompt, as token ids"), promptBox, problem, stripBox),
    h("div", {class: "watch"}, h("h2", {}, "Next token ", status), next.element, h("h3", {}, "Edits"), made, h("div", {class: "controls"}, undo),
      h("h3", {}, "The same in the terminal"), h("div", {class: "made"}, command, " ", copy)),
    h("div", {class: "parts"}, sections.map((section) => section.element))));
  changed(true);
  patching?.ask();
};

// The most probable next tokens: a bar of the probability with a mark where it is without edits, the logit and its change.
function liveNext() {
  const sentence = h("p", {id: "sentence", "aria-live": "polite"}), rows = h("tbody");
  function row(t, edited, gone) {
    const bar = h("span", {class: "bar"}, h("i", {style: `width: ${100 * t.prob}%`}), edited ? h("b", {style: `left: ${100 * t.clean_prob}%`}) : null);
    withTip(bar, () => `${nameOfToken(t)}\nnow ${percent(t.prob)}, logit ${number(t.logit)}\nunedited ${percent(t.clean_prob)}, logit ${number(t.clean_logit)}`);
    return h("tr", {"data-token": t.id, class: gone ? "gone" : null}, h("td", {}, h("span", {class: "token"}, nameOfToken(t))), h("td", {class: "share"}, bar),
      [percent(t.prob), t.logit.toFixed(2), edited ? signed(Number(t.logit_change.toFixed(2))) : "–"].map((text) => h("td", {class: "number"}, text)));
  }
  return {
    element: [sentence, h("div", {class: "scroll"}, h("table", {class: "next", "aria-label": "most probable next tokens"},
      h("thead", {}, h("tr", {}, ["token", "", "probability", "logit", "change"].map((title, k) => h("th", {scope: "col", class: k > 1 ? "number" : null}, title)))), rows))],
    draw(answer) {
      const edited = answer.edits.length > 0, [now, before] = [answer.top[0], answer.clean[0]], shown = new Set(answer.top.map((t) => t.id));
      show(sentence, "After ", h("b", {}, tokenLabel(answer, answer.position)), " comes ", h("b", {}, nameOfToken(now)), ` ${percent(now.prob)}`,
        edited ? [", unedited ", h("b", {}, nameOfToken(before)), ` ${percent(before.clean_prob)}; ${number(answer.kl)} nats apart (KL)`] : null);
      // The first of before are there, too, where they have fallen far.
      show(rows, answer.top.map((t) => row(t, edited, false)), edited ? answer.clean.slice(0, 3).filter((t) => !shown.has(t.id)).map((t) => row(t, true, true)) : null);
    },
  };
}
