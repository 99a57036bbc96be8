// What a page that is live is made of: questions to the server that it came from, switches and sliders.

// Questions to one address of the server. A tab has one answer on its way at a time:
//   const ask = questions("/api/run", {shown: (answer, milliseconds) => ..., failed: (text) => ...});
//   ask(body);         // after the answer that is on its way, if there is one; of several that wait the last is asked
//   ask(body, true);   // now: what is on its way is of no use any more, and the server ends it
function questions(path, {shown, failed}) {
  const tab = Array.from(crypto.getRandomValues(new Uint32Array(4)), (x) => x.toString(36)).join("");
  let turn = 0, running = null, waiting = null;

  async function send(body, since) {
    const mine = running = {stop: new AbortController()};
    const own = () => running === mine;
    try {
      const response = await fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, signal: mine.stop.signal,
                                          body: JSON.stringify({tab, turn: ++turn, ...body})});
      const answer = await response.json();
      if (!own()) return;
      if (response.status === 503) await new Promise((again) => setTimeout(again, 500));
      if (!own()) return;
      if (response.status === 503) waiting ??= {body, since};
      else if (response.ok) shown(answer, performance.now() - since);
      else if (!answer.cancelled) failed(answer.error);
    } catch (error) {
      if (error.name !== "AbortError" && own()) failed(error instanceof TypeError ? "The server does not answer: has it ended? Start it again with vitrine serve." : String(error));
    } finally {
      if (own()) {
        running = null;
        const next = waiting;
        waiting = null;
        if (next) send(next.body, next.since);
      }
    }
  }
  addEventListener("pagehide", () => {
    if (running) navigator.sendBeacon(path, new Blob([JSON.stringify({tab, turn: ++turn, leave: true})], {type: "application/json"}));
  });
  return (body, now = false) => {
    const since = performance.now();
    if (running && !now) {
      waiting = {body, since};
      return;
    }
    running?.stop.abort();
    waiting = null;
    send(body, since);
  };
}

// An edit as `--edit` reads it: a text stands in quotes, one kind within the other.
function editWord(key, text) {
  return key + "=" + text.split(/('+)/).filter((part) => part).map((part) => (part[0] === "'" ? `"${part}"` : `'${part}'`)).join("");
}

// A grid of switches, rows of buttons under one name each. Arrow keys move.
//   switchGrid({rows: [{name: "layer 0", cells: [{id: "0.0", text: "0", label: "layer 0, head 0"}]}], off: (id) => "zero" or null,
//               press: (id) => ..., label})
function switchGrid(spec) {
  const buttons = new Map(), places = [];
  const across = Math.max(...spec.rows.map((row) => row.cells.length));
  const element = h("div", {class: "switches", role: "group", "aria-label": spec.label + "; arrow keys move",
    style: `grid-template-columns: max-content repeat(${across}, minmax(2rem, max-content))`}, spec.rows.map((row, r) => [
    h("span", {class: "layer", style: "grid-column: 1"}, row.name),
    row.cells.map((cell, c) => {
      const button = h("button", {type: "button", "data-switch": cell.id, tabindex: "-1", onclick: () => { enter(button); spec.press(cell.id); draw(); },
        onfocus: () => enter(button), onkeydown: (event) => move(event, r, c)}, cell.text);
      buttons.set(cell.id, {button, cell});
      (places[r] ??= [])[c] = button;
      return button;
    }),
  ]));
  function enter(button) {
    for (const other of buttons.values()) other.button.tabIndex = other.button === button ? 0 : -1;
  }
  function move(event, r, c) {
    const [dr, dc] = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key] ?? [0, 0];
    const row = places[r + dr], next = row?.[dr ? Math.min(c, row.length - 1) : c + dc];
    if (!next || (!dr && !dc)) return;
    event.preventDefault();
    next.focus();
  }
  function draw() {
    for (const [id, {button, cell}] of buttons) {
      const off = spec.off(id);
      button.setAttribute("aria-pressed", off ? "true" : "false");
      button.setAttribute("aria-label", `${cell.label}: ${off ? "off, " + off : "on"}`);
    }
  }
  places[0][0].tabIndex = 0;
  draw();
  return {element: h("div", {class: "scroll"}, element), draw};
}

// A slider and a box for the same number; the box takes any number.
//   slider({label, least, most, step, value, change: (value) => ...}); .element, .set(value)
function slider(spec) {
  const range = h("input", {type: "range", min: spec.least, max: spec.most, step: spec.step, "aria-label": spec.label,
                            oninput: () => take(range.valueAsNumber, box)});
  const box = h("input", {type: "number", step: "any", "aria-label": spec.label + ", as a number", oninput: () => take(box.valueAsNumber, range)});
  function take(value, other) {
    if (!Number.isFinite(value)) return;
    other.value = value;
    spec.change(value);
  }
  function set(value) {
    range.value = value;
    box.value = value;
  }
  set(spec.value);
  return {element: h("span", {class: "slider"}, range, box), set};
}
