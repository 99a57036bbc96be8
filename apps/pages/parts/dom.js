// Elements. What is given as text becomes a text node: no token and no prompt is ever read as markup.

// h("p", {class: "quiet", onclick: f}, "text", element, [more]) makes an element of HTML.
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// The same of SVG.
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// Puts new children in the place of those that an element has.
function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// Calls `act` on click, Enter and Space of an element that is no button by itself.
function pressable(element, act) {
  element.setAttribute("tabindex", "0");
  element.addEventListener("click", act);
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act(event);
  });
  return element;
}

// A row of buttons of which one is pressed: choice("By", ["layer", "head"], 0, (index) => ...).
function choice(label, names, chosen, act) {
  const buttons = names.map((name, index) => h("button", {type: "button", onclick: () => press(index)}, name));
  function press(index) {
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === index));
    act(index);
  }
  buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === chosen));
  return h("div", {class: "controls", role: "group", "aria-label": label}, h("span", {class: "quiet"}, label), buttons);
}

// A select of names: picker("Head", ["0", "1"], 0, (index) => ...).
function picker(label, names, chosen, act) {
  const select = h("select", {onchange: () => act(select.selectedIndex)},
                   names.map((name, index) => h("option", {selected: index === chosen}, name)));
  return h("label", {}, label, select);
}

// A line that opens what `make()` gives, which is made when it is opened first.
function unfold(title, make) {
  const box = h("details", {ontoggle: () => { if (box.open && box.children.length === 1) box.append(make()); }}, h("summary", {}, title));
  return box;
}

// Tells a screen reader what has just been shown.
function say(text) {
  const said = document.getElementById("said");
  if (said) said.textContent = text;
}
