// The tip: what the pointer or the keyboard stands on, in words.

function showTip(text, x, y) {
  const box = document.getElementById("tip");
  if (!box) return;
  box.textContent = text;
  if (!text) return;
  const {width, height} = box.getBoundingClientRect();
  box.style.left = Math.max(4, Math.min(x + 14, innerWidth - width - 4)) + "px";
  box.style.top = (y + 18 + height > innerHeight ? Math.max(4, y - height - 10) : y + 18) + "px";
}

function hideTip() {
  showTip("", 0, 0);
}

// Shows `text()` while the pointer is over an element or the keyboard is on it.
function withTip(element, text) {
  element.addEventListener("pointermove", (event) => showTip(text(), event.clientX, event.clientY));
  element.addEventListener("pointerleave", hideTip);
  element.addEventListener("focus", () => {
    const box = element.getBoundingClientRect();
    showTip(text(), box.left, box.bottom - 14);
  });
  element.addEventListener("blur", hideTip);
  return element;
}
