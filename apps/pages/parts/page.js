// The page itself: its head, its theme, and the view that draws the result.

const views = {};  // views[name](data, root): the files of views/ put theirs here
const themed = new Set();

// Draws again when the page goes from light to dark; not what has left the page.
function onTheme(element, draw) {
  themed.add({element, draw});
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  for (const one of themed) {
    if (one.element.isConnected) one.draw();
    else themed.delete(one);
  }
}

// The words of a command line as a shell reads them.
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'";
}

function commandText(meta) {
  const command = meta.command;
  return Array.isArray(command) ? command.map(quoted).join(" ") : String(command);
}

function pageHead(title, meta) {
  const command = meta ? commandText(meta) : "";
  const theme = h("button", {type: "button", "aria-label": "light or dark", onclick: () => {
    setTheme(document.documentElement.dataset.theme !== "dark");
  }}, "◐");
  const copy = h("button", {type: "button", onclick: () => {
    navigator.clipboard?.writeText(command).then(() => { copy.textContent = "copied"; }, () => {});
  }}, "copy");
  return h("header", {}, h("div", {}, h("h1", {}, title), meta ? h("div", {class: "made"},
    h("span", {class: "quiet"}, `${meta.model ?? "no model"}, made by`), h("span", {class: "command"}, command), copy) : null), theme);
}

function showPage(name, data) {
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  setTheme(preferred.matches);
  preferred.addEventListener("change", (event) => setTheme(event.matches));
  const root = h("main");
  document.body.append(root, h("div", {id: "tip", role: "tooltip"}), h("div", {id: "said", "aria-live": "polite"}));
  addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  views[name](data, root);
}
