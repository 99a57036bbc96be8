// Search: names that contain all the words that are typed; those that begin with them come first.
"use strict";
const input = document.getElementById("search"), list = document.getElementById("found");
const root = document.body.dataset.root;
const kMost = 30;

function rank(text, words) {
  const lower = text.toLowerCase();
  if (!words.every((w) => lower.includes(w))) return -1;
  if (lower === words.join(" ")) return 4;
  if (lower.startsWith(words[0])) return 3;
  return new RegExp(`(^|[^a-z0-9])${words[0].replace(/[^a-z0-9]/g, "\\$&")}`).test(lower) ? 2 : 1;
}

function show() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  list.replaceChildren();
  list.hidden = words.length === 0;
  if (list.hidden) return;
  const found = vitrineSearch.map((row, i) => [rank(row[0], words), i]).filter(([r]) => r >= 0);
  found.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  for (const [, i] of found.slice(0, kMost)) {
    const [text, page, address] = vitrineSearch[i];
    const link = document.createElement("a"), where = document.createElement("span"), item = document.createElement("li");
    link.href = `${root}/${address}`;
    link.textContent = text;
    where.textContent = page === text ? "" : page;
    link.append(where);
    item.append(link);
    list.append(item);
  }
  if (found.length === 0) {
    const item = document.createElement("li");
    item.textContent = "nothing";
    list.append(item);
  }
}

input.addEventListener("input", show);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== input) {
    event.preventDefault();
    input.focus();
  } else if (event.key === "Escape") {
    input.value = "";
    show();
  } else if (event.key === "Enter" && document.activeElement === input) {
    list.querySelector("a")?.click();
  }
});

// The navigation shows where one is; the page itself stays.
const nav = document.querySelector("nav.site"), here = nav.querySelector("[aria-current]");
if (here) nav.scrollTop = here.getBoundingClientRect().top - nav.getBoundingClientRect().top - nav.clientHeight / 2;
