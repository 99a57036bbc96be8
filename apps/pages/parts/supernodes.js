// Supernodes: nodes of a graph that are looked at as one. They are made, named and edited here, and drawn as one node each.
//   const own = supernodes(data, nodes, {changed: () => ..., command: "--supernode ..."});
//   own.element; own.list; own.owner(id); own.picking; own.toggle(id)

function supernodes(data, nodes, act) {
  const list = (data.qParams?.supernodes ?? []).map(([name, ...ids]) => ({name, nodes: ids, merged: true}));
  const measured = new Map((data.supernodes ?? []).map((one) => [one.name, one]));
  const picked = new Set(), element = h("section", {id: "supernodes", "aria-label": "supernodes"});
  let picking = false, name = "", wrong = "";

  const owner = (id) => list.find((one) => one.nodes.includes(id)) ?? null;
  const title = (id) => nodes.get(id)?.title ?? id;
  function changed(said) {
    write();
    act.changed();
    if (said) say(said);
  }
  // A node is in one supernode alone.
  function take(id) {
    const from = owner(id);
    if (from) leave(from, id);
  }
  function leave(one, id) {
    one.nodes = one.nodes.filter((other) => other !== id);
    if (!one.nodes.length) list.splice(list.indexOf(one), 1);
  }
  function refusal(text, besides) {
    if (!text) return "A supernode needs a name.";
    if (nodes.has(text)) return `${text} is the name of a node.`;
    return list.some((one) => one !== besides && one.name === text) ? `There is a supernode ${text} already.` : "";
  }
  function make() {
    const text = name.trim();
    wrong = picked.size ? refusal(text, null) : "Pick nodes first: a click on a node picks it.";
    if (wrong) return write();
    for (const id of picked) take(id);
    list.push({name: text, nodes: [...picked], merged: true});
    picked.clear();
    [picking, name] = [false, ""];
    changed(`${text} was made`);
  }
  function rename(one, input) {
    const text = input.value.trim();
    wrong = refusal(text, one);
    if (wrong) return write();
    one.name = text;
    changed();
  }

  const chip = (id, remove) => h("span", {class: "token"}, title(id), " ", h("button", {type: "button", class: "small", "aria-label": `take ${title(id)} out`, onclick: remove}, "×"));
  function card(one) {
    const found = measured.get(one.name), same = found && found.nodes.length === one.nodes.length && found.nodes.every((id) => one.nodes.includes(id));
    const input = h("input", {type: "text", value: one.name, "aria-label": "name of the supernode", onchange: () => rename(one, input)});
    return h("div", {class: "panel supernode"},
      h("div", {class: "controls"}, input,
        h("label", {}, h("input", {type: "checkbox", checked: one.merged, onchange: (event) => { one.merged = event.target.checked; changed(); }}), "drawn as one"),
        picked.size ? h("button", {type: "button", onclick: () => { for (const id of picked) if (!one.nodes.includes(id)) { take(id); one.nodes.push(id); } if (!list.includes(one)) list.push(one); picked.clear(); changed(); }}, `add the ${picked.size} picked`) : null,
        h("button", {type: "button", onclick: () => { list.splice(list.indexOf(one), 1); changed(`${one.name} was dissolved`); }}, "dissolve")),
      h("p", {}, one.nodes.map((id) => [chip(id, () => { leave(one, id); changed(); }), " "])), same ? supernodeEffects(found) : null);
  }

  function write() {
    const input = h("input", {type: "text", id: "supernode-name", value: name, placeholder: "name", "aria-label": "name of the new supernode", oninput: () => { name = input.value; },
      onkeydown: (event) => { if (event.key === "Enter") make(); }});
    show(element, h("h2", {}, "Supernodes"),
      h("p", {class: "quiet"}, "Nodes that are looked at as one: pick them in the picture, give them a name. Their edges are summed. A saved file is read by ", h("code", {}, "vitrine graph --read"), ", by ", h("code", {}, "--supernodes"), " and by circuit-tracer's viewers."),
      h("div", {class: "controls"},
        h("button", {type: "button", id: "pick", "aria-pressed": picking, onclick: () => { picking = !picking; changed(picking ? "a click on a node picks it" : ""); }}, "Pick nodes"),
        input, h("button", {type: "button", id: "make", onclick: make}, "Make a supernode"),
        h("button", {type: "button", id: "save", onclick: () => download(`${(data.metadata.slug || "graph").replaceAll(/[^\w.-]+/g, "-")}.json`, graphFile(data, list))}, "Save the graph with them")),
      wrong ? h("p", {class: "problem", role: "alert"}, wrong) : null,
      picked.size ? h("p", {id: "picked"}, "Picked: ", [...picked].map((id) => [chip(id, () => { picked.delete(id); changed(); }), " "])) : null,
      list.map(card),
      list.length ? h("p", {class: "quiet"}, "What switching them off does is measured by: ", h("code", {id: "supernode-words"}, list.map((one) => `--supernode ${quoted(`${one.name}=${one.nodes.join(",")}`)}`).join(" "))) : null);
    wrong = "";
  }
  write();
  return {element, list, owner, picked, get picking() { return picking; },
    toggle(id) {
      if (nodes.get(id)?.kind === "logit") wrong = "A logit gives nothing to other nodes: it cannot be in a supernode that is scaled.";
      else if (!picked.delete(id)) picked.add(id);
      changed();
    }};
}

function supernodeEffects(found) {
  const first = found.effects[0];
  return h("p", {}, `With what they give times ${number(found.factor)} the logit `, h("code", {}, first.token ?? String(first.id)), " is lower by ", h("b", {}, number(first.by_graph)), " by the graph, by ",
    h("b", {}, number(first.exact)), " in the model and by ", h("b", {}, number(first.exact_held)), " there with attention held. It then says ",
    found.after.slice(0, 3).map((t, k) => [k ? ", " : "", h("code", {}, t.token ?? String(t.id)), " ", share1(t.prob)]), ".");
}

// Nodes and links with each merged supernode as one node: its place is that of its last member.
function mergedGraph(nodes, links, own) {
  const whole = new Map(), merged = [];
  for (const one of own.list.filter((s) => s.merged)) {
    const members = one.nodes.map((id) => nodes.find((node) => node.id === id)).filter(Boolean);
    if (!members.length) continue;
    const last = members.reduce((a, b) => ((b.layer ?? -1) > (a.layer ?? -1) || (b.layer === a.layer && b.position > a.position) ? b : a));
    const node = {id: one.name, key: null, kind: "supernode", layer: last.layer, position: Math.max(...members.map((m) => m.position)), name: one.name, title: `Supernode ${one.name}`, members, cumulative: null};
    merged.push(node);
    for (const member of members) whole.set(member.id, node.id);
  }
  const sums = new Map();
  for (const link of links) {
    const [source, target] = [whole.get(link.source) ?? link.source, whole.get(link.target) ?? link.target];
    if (source === target) continue;
    const key = JSON.stringify([source, target]), sum = sums.get(key) ?? {source, target, weight: 0, links: 0};
    sum.weight += link.weight;
    sum.links += 1;
    sums.set(key, sum);
  }
  return {nodes: [...nodes.filter((node) => !whole.has(node.id)), ...merged], links: whole.size ? [...sums.values()] : links, whole};
}
