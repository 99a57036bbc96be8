// Numbers as people read them.

// About three digits: 0.0123, 4.56, 789, 1.2e+7; "–" for null.
function number(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) return x.toExponential(1);
  return size >= 1000 ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(3)));
}

// The same with its sign: +0.12, −3.4; 0 has none.
function signed(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (x === 0) return "0";
  return x < 0 ? "−" + number(-x) : "+" + number(x);
}

// A share of 1: 12.3%, <0.1%.
function percent(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (x > 0 && x < 0.0005) return "<0.05%";
  const text = (100 * Math.abs(x)).toFixed(1) + "%";
  return x < 0 && text !== "0.0%" ? "−" + text : text;
}

// With a prefix of the unit, in thousands: 12.3 MB, 4.56 GFLOP.
function sized(x, unit) {
  const step = x < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(x) / 3));
  return `${number(x / 1000 ** step)} ${["", "k", "M", "G", "T"][step]}${unit}`;
}

// A probability, of improbable things too: 12.3%, 0.0123%.
function probability(x) {
  if (x === null || x === undefined || Number.isNaN(x) || x >= 0.001) return percent(x);
  return x < 1e-6 ? "<0.0001%" : number(100 * x) + "%";
}

// The largest and the least number of lists within lists; null and NaN do not count.
function range(values) {
  let [least, most] = [Infinity, -Infinity];
  for (const x of values.flat(Infinity)) {
    if (x === null || Number.isNaN(x)) continue;
    if (x < least) least = x;
    if (x > most) most = x;
  }
  return [least, most];
}

// Numbers at which an axis from `least` to `most` is marked: about `count` round ones.
function ticks(least, most, count = 5) {
  if (!(most > least)) return [least];
  const rough = (most - least) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((k) => k * power >= rough) * power;
  const marks = [];
  for (let k = Math.ceil(least / step - 1e-9); k * step <= most + step * 1e-9; ++k) marks.push(Number((k * step).toPrecision(12)));
  return marks;
}

// [a, x, b, y] as [[a, x], [b, y]].
function pairs(flat) {
  return Array.from({length: flat.length / 2}, (_, k) => [flat[2 * k], flat[2 * k + 1]]);
}
