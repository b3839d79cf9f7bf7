// Pixels into the model and out of it, and its noise: plain arrays, the same numbers as data/pipeline.py gives.
// A canvas' own scaling filters otherwise, hence the filter here. Knows no page; tests/test_web.py runs it in node.

// What is seen of a picture: its shorter side brought to loadSize, then the central square of `size` pixels.
function cut(width, height, size, loadSize) {
  const short = Math.min(width, height);
  const along = (side) => {
    const scaled = Math.floor((side * loadSize + Math.floor(short / 2)) / short);
    return spans(side, scaled, Math.floor((scaled - size) / 2), size);
  };
  return { across: along(width), down: along(height) };
}

// For `count` pixels from `first` on, of a side of `from` pixels brought to `to`: [{start, weights}], a triangle as
// wide as a new pixel where the side shrinks (antialiasing), as tf.image.resize and Pillow filter.
function spans(from, to, first, count) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const start = Math.min(Math.max(Math.ceil(centre - reach - 0.5), 0), from - 1);
    const stop = Math.min(Math.max(Math.floor(centre + reach - 0.5), 0), from - 1) + 1;
    const weights = Array.from({ length: stop - start }, (_, j) =>
      Math.max(0, 1 - Math.abs(start + j + 0.5 - centre) / reach));
    const sum = weights.reduce((a, b) => a + b);
    return { start, weights: weights.map((weight) => weight / sum) };
  });
}

// The picture as the model takes it: Float32Array of size x size x 3 in [-1, 1].
//   readRows(top, bottom): RGBA bytes of these rows; asked for in strips, so that no canvas has to hold the picture.
export function prepare(readRows, width, height, size, loadSize, strip = 256) {
  const { across, down } = cut(width, height, size, loadSize);
  const sums = new Float64Array(size * size * 3);
  const row = new Float64Array(size * 3);
  const bottom = Math.max(...down.map((span) => span.start + span.weights.length));
  for (let top = down[0].start; top < bottom; top += strip) {
    const end = Math.min(top + strip, bottom);
    const bytes = readRows(top, end);
    for (let y = top; y < end; y++) {
      narrow(bytes, (y - top) * width * 4, across, row);
      for (let out = 0; out < size; out++) {
        const weight = down[out].weights[y - down[out].start];
        if (!weight) continue; // outside of the span, too
        for (let i = 0, to = out * size * 3; i < row.length; i++, to++) sums[to] += weight * row[i];
      }
    }
  }
  return Float32Array.from(sums, (value) => value / 127.5 - 1);
}

// One row of RGBA bytes from `offset` on, filtered along its length into `row` of RGB.
function narrow(bytes, offset, across, row) {
  across.forEach(({ start, weights }, out) => {
    let red = 0, green = 0, blue = 0;
    for (let j = 0, at = offset + start * 4; j < weights.length; j++, at += 4) {
      red += weights[j] * bytes[at];
      green += weights[j] * bytes[at + 1];
      blue += weights[j] * bytes[at + 2];
    }
    row.set([red, green, blue], out * 3);
  });
}

// RGBA bytes for a canvas of the model's [-1, 1] RGB. Throws an Error where a value is no number.
export function toPixels(image) {
  const pixels = new Uint8ClampedArray((image.length / 3) * 4).fill(255);
  for (let from = 0, to = 0; from < image.length; from += 3, to += 4) {
    for (let c = 0; c < 3; c++) {
      if (!Number.isFinite(image[from + c])) throw new Error("the model gave values that are not numbers");
      pixels[to + c] = (image[from + c] + 1) * 127.5; // rounds to nearest and clips by itself
    }
  }
  return pixels;
}

// `count` independent standard normal numbers, Float32Array, the same for the same `number`; 0: zeros, the mean edit.
export function drawNoise(count, number) {
  const noise = new Float32Array(count);
  if (number === 0) return noise;
  const uniform = mulberry32(number);
  return noise.map(() => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())); // Box-Muller
}

// Tommy Ettinger's small generator (public domain): uniform numbers in [0, 1) from a 32-bit seed.
function mulberry32(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// (1 - share) first + share second, number by number.
export function mix(first, second, share) {
  return first.map((value, i) => (1 - share) * value + share * second[i]);
}
