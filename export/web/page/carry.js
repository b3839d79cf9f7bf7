// An edit of a small picture carried up to its photograph, at the photograph's own size: what simgan_tf/carry.py does,
// within 1 of 255, on a canvas' RGBA bytes. Knows no page and no model; tests/test_carry.py runs it in node.

const SMOOTH = 1, RADIUS = 2, EPSILON = 1e-3, FEATHER = 1 / 8; // see simgan_tf/carry.py
const GAIN = 2, GAIN_OF_ALL = 1.25, EVEN = 1e-9 * 127.5 ** 2, REST = 0.5, FAR = 0.06 * 127.5; // of pixels 0 to 255

// What changes about a colour at every small pixel: {maps, w, h}, maps 12 numbers a pixel, the change of pixels 0 to
// 255 as nine slopes (three of red, green, blue of what comes out, for each of what goes in) and three offsets.
//   small, edited: w x h x 3 numbers in [-1, 1], all of the photograph as the model saw it, and what it made of that.
// Throws an Error where a value is no number.
export function fit(small, edited, w, h) {
  const count = w * h, x = Float64Array.from(small), d = Float64Array.from(edited, (value, i) => value - small[i]);
  if (!d.every(Number.isFinite)) throw new Error("the model gave values that are not numbers");
  mean(x, w, h, 3, SMOOTH);
  mean(d, w, h, 3, SMOOTH);
  const sums = new Float64Array(count * 21); // of each pixel: x, d, the six products of x with x, the nine of x with d
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [x[3 * i], x[3 * i + 1], x[3 * i + 2]];
    const change = [d[3 * i], d[3 * i + 1], d[3 * i + 2]];
    sums.set([r, g, b, ...change, r * r, r * g, r * b, g * g, g * b, b * b], 21 * i);
    for (let c = 0; c < 3; c++) {
      sums[21 * i + 12 + c] = r * change[c];
      sums[21 * i + 15 + c] = g * change[c];
      sums[21 * i + 18 + c] = b * change[c];
    }
  }
  mean(sums, w, h, 21, RADIUS);
  const maps = new Float64Array(count * 12);
  for (let i = 0; i < count; i++) solve(sums.subarray(21 * i, 21 * i + 21), maps.subarray(12 * i, 12 * i + 12));
  mean(maps, w, h, 12, RADIUS);
  meet(maps, small, edited, w, h);
  return { maps: Float32Array.from(maps), w, h };
}

// Changes the maps, so that the small picture's finest detail keeps its contrast, then so that they meet the edit closer.
function meet(maps, small, edited, w, h) {
  const x = Float64Array.from(small, (value) => 127.5 * (value + 1));
  const smooth = meant(x, w, h), made = changes(maps, x).map((value, i) => x[i] + value);
  const power = (image, even) => image.reduce((sum, value, i) => sum + (value - even[i]) ** 2, 0) / image.length + EVEN;
  const gain = Math.sqrt(power(x, smooth) / power(made, meant(made, w, h)));
  const more = Math.min(Math.max(gain, 1 / GAIN_OF_ALL), GAIN_OF_ALL) - 1;
  for (let at = 0, i = 0; at < maps.length; at += 12, i += 3) {
    for (let c = 0; c < 3; c++) {
      for (let k = 0; k < 3; k++) {
        const added = more * (maps[at + 3 * k + c] + (k === c));
        maps[at + 3 * k + c] += added;
        maps[at + 9 + c] -= smooth[i + k] * added;
      }
    }
  }
  const left = changes(maps, x).map((value, i) => 127.5 * (edited[i] - small[i]) - value);
  const share = Math.min(Math.max(left.reduce((sum, value) => sum + Math.abs(value), 0) / left.length / FAR, REST), 1);
  meant(left, w, h).forEach((value, i) => maps[12 * Math.floor(i / 3) + 9 + i % 3] += share * value);
}

// What the maps change about colours x, three numbers a pixel.
function changes(maps, x) {
  return x.map((_, i) => {
    const c = i % 3, first = i - c, at = 4 * first;
    return maps[at + 9 + c] + x[first] * maps[at + c] + x[first + 1] * maps[at + 3 + c] + x[first + 2] * maps[at + 6 + c];
  });
}

function meant(x, w, h) {
  const values = x.slice();
  mean(values, w, h, 3, SMOOTH);
  return values;
}

// (cov(x, x) + EPSILON 1)^-1 cov(x, d) of one window's means, by the inverse of a symmetric 3x3 matrix, with the contrast
// that the window had, and offsets.
function solve(sums, out) {
  const [r, g, b] = sums;
  const rr = sums[6] - r * r + EPSILON, rg = sums[7] - r * g, rb = sums[8] - r * b;
  const gg = sums[9] - g * g + EPSILON, gb = sums[10] - g * b, bb = sums[11] - b * b + EPSILON;
  const i0 = gg * bb - gb * gb, i1 = rb * gb - rg * bb, i2 = rg * gb - rb * gg; // its cofactors
  const i4 = rr * bb - rb * rb, i5 = rg * rb - rr * gb, i8 = rr * gg - rg * rg;
  const whole = rr * i0 + rg * i1 + rb * i2;
  let power = 0; // the trace of (1 + A)' C (1 + A)
  for (let c = 0; c < 3; c++) {
    const d = sums[3 + c];
    const red = sums[12 + c] - r * d, green = sums[15 + c] - g * d, blue = sums[18 + c] - b * d;
    const u = (i0 * red + i1 * green + i2 * blue) / whole + (c === 0); // a column of 1 + A
    const v = (i1 * red + i4 * green + i5 * blue) / whole + (c === 1);
    const w = (i2 * red + i5 * green + i8 * blue) / whole + (c === 2);
    power += u * (rr * u + rg * v + rb * w) + v * (rg * u + gg * v + gb * w) + w * (rb * u + gb * v + bb * w);
    [out[c], out[3 + c], out[6 + c]] = [u, v, w];
  }
  const ratio = Math.sqrt(power / (rr + gg + bb));
  const gain = Math.min(Math.max(1 / Math.max(ratio, 1e-6), 1 / GAIN), GAIN);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < 3; i++) out[3 * i + c] = gain * out[3 * i + c] - (i === c);
    out[9 + c] = 127.5 * (sums[3 + c] - (r + 1) * out[c] - (g + 1) * out[3 + c] - (b + 1) * out[6 + c]); // pixel / 127.5 - 1
  }
}

// Changes RGBA bytes in place: rows `top` and following, as many as there are, of the photograph of width x height.
// Rows can come in strips, so that no canvas has to hold the whole picture. Alpha stays.
export function apply({ maps, w, h }, bytes, width, height, top = 0) {
  const across = Array.from({ length: width }, (_, x) => place(w, width, x));
  const rows = bytes.length / (4 * width);
  let above = null, step = null, row = -1; // two rows of small pixels, drawn out to `width`: the first, and up to the second
  for (let y = 0; y < rows; y++) {
    const { before, after, share } = place(h, height, top + y);
    if (before !== row) {
      above = drawnOut(maps, w, before, across);
      step = drawnOut(maps, w, after, across);
      for (let i = 0; i < step.length; i++) step[i] -= above[i];
      row = before;
    }
    for (let x = 0, at = 4 * width * y, i = 0; x < width; x++, at += 4, i += 12) {
      const red = bytes[at], green = bytes[at + 1], blue = bytes[at + 2];
      for (let c = 0; c < 3; c++) { // a clamped array rounds and clips by itself
        bytes[at + c] += red * (above[i + c] + share * step[i + c])
          + green * (above[i + 3 + c] + share * step[i + 3 + c])
          + blue * (above[i + 6 + c] + share * step[i + 6 + c]) + above[i + 9 + c] + share * step[i + 9 + c];
      }
    }
  }
}

// A row of maps, interpolated between the small pixels' centres: 12 numbers for each of the photograph's pixels.
function drawnOut(maps, w, row, across) {
  const out = new Float32Array(12 * across.length);
  across.forEach(({ before, after, share }, x) => {
    const left = 12 * (row * w + before), right = 12 * (row * w + after);
    for (let k = 0; k < 12; k++) out[12 * x + k] = maps[left + k] + share * (maps[right + k] - maps[left + k]);
  });
  return out;
}

// Of pixel `at` of `length` over `count` larger ones: the one before, the one after, and the share of the latter.
function place(count, length, at) {
  const exact = Math.min(Math.max((at + 0.5) * count / length - 0.5, 0), count - 1);
  const before = Math.floor(exact);
  return { before, after: Math.min(before + 1, count - 1), share: exact - before };
}

// Mean over squares of 2 radius + 1 pixels, in place, of what of them lies inside: `depth` numbers a pixel.
function mean(values, w, h, depth, radius) {
  const line = new Float64Array(Math.max(w, h) * depth);
  for (let y = 0; y < h; y++) meanOfLine(values, y * w * depth, w, depth, depth, radius, line);
  for (let x = 0; x < w; x++) meanOfLine(values, x * depth, h, w * depth, depth, radius, line);
}

function meanOfLine(values, start, length, stride, depth, radius, line) {
  for (let i = 0; i < length; i++) {
    const first = Math.max(i - radius, 0), last = Math.min(i + radius, length - 1);
    for (let k = 0; k < depth; k++) {
      let sum = 0;
      for (let j = first; j <= last; j++) sum += values[start + j * stride + k];
      line[i * depth + k] = sum / (last - first + 1);
    }
  }
  for (let i = 0; i < length; i++) {
    for (let k = 0; k < depth; k++) values[start + i * stride + k] = line[i * depth + k];
  }
}

// RGBA bytes of the photograph, with `part` (RGBA bytes of the box's size) in the place of the box, in place, fading in
// along the box's inner border; a side that lies on the photograph's own edge does not fade.
//   box: {x, y, width, height} in whole pixels.
export function putBack(bytes, width, height, part, box) {
  const border = FEATHER * Math.min(box.width, box.height);
  const across = fade(box.width, border, box.x > 0, box.x + box.width < width);
  const down = fade(box.height, border, box.y > 0, box.y + box.height < height);
  for (let y = 0; y < box.height; y++) {
    for (let x = 0; x < box.width; x++) {
      const to = 4 * ((box.y + y) * width + box.x + x), from = 4 * (y * box.width + x), share = down[y] * across[x];
      for (let c = 0; c < 3; c++) bytes[to + c] += share * (part[from + c] - bytes[to + c]);
    }
  }
}

// Shares of the new picture: 0 to 1 along `border` pixels at the ends that fade, 1 elsewhere, without a corner.
function fade(side, border, first, last) {
  return Array.from({ length: side }, (_, i) => {
    const ramp = (distance) => {
      const t = Math.min(distance / border, 1);
      return t * t * (3 - 2 * t);
    };
    return (first ? ramp(i + 0.5) : 1) * (last ? ramp(side - i - 0.5) : 1);
  });
}
