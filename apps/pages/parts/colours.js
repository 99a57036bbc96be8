// Colours of numbers. A scale is {colour(x), least, most, name}; `scaleBar` shows it.

const themeColours = new Map();  // by theme and name: a heatmap asks for each cell
function themeColour(name) {
  const key = document.documentElement.dataset.theme + name;
  if (!themeColours.has(key)) themeColours.set(key, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim().split(",").map(Number));
  return themeColours.get(key);
}

function mix(from, to, share) {
  return "rgb(" + from.map((x, k) => Math.round(x + (to[k] - x) * share)).join(",") + ")";
}

// Around zero: blue below, orange above, the ground at 0; both ends are as far from 0.
function zeroCentred(values, name = "") {
  const size = Math.max(...range(values).map(Math.abs).filter(Number.isFinite), 0) || 1;
  return {
    name, least: -size, most: size,
    colour(x) {
      if (x === null || Number.isNaN(x)) return "transparent";
      return mix(themeColour("none"), themeColour(x < 0 ? "less" : "more"), Math.min(1, Math.abs(x) / size));
    },
  };
}

// From 0 to `most`, for what has no sign: attention, densities.
function fromZero(most, name = "") {
  most = most > 0 ? most : 1;
  return {
    name, least: 0, most,
    colour(x) {
      if (x === null || Number.isNaN(x)) return "transparent";
      return mix(themeColour("none"), themeColour("weight"), Math.min(1, Math.max(0, x) / most));
    },
  };
}

// Black or white, whichever is read more easily on a colour "rgb(r,g,b)".
function inkOn(colour) {
  const channels = colour.match(/\d+/g);
  if (!channels || colour === "transparent") return "var(--text)";
  const [r, g, b] = channels.slice(0, 3).map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

function scaleBar(scale, text = number) {
  const bar = h("i");
  const draw = () => {
    const steps = Array.from({length: 9}, (_, k) => scale.colour(scale.least + (scale.most - scale.least) * k / 8));
    bar.style.background = `linear-gradient(to right, ${steps.join(", ")})`;
  };
  onTheme(bar, draw);
  draw();
  return h("span", {class: "scale"}, scale.name ? scale.name + " " : null, text(scale.least), bar, text(scale.most));
}
