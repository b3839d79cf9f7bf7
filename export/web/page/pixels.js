// Pixels as the model takes them, and its noise: plain arrays, the same numbers as Pillow's scaling gives.
// A canvas' own scaling filters otherwise, hence the filter here. Knows no page; tests/test_web.py runs it in node.

const ONE = 2 ** 22; // what weights of Pillow's scaling add up to: they are integers, so that halves fall as its do

// For a side of `from` pixels brought to `to`: [{start, weights}], a triangle as wide as a new pixel where the side
// shrinks (antialiasing), as Pillow filters.
function spans(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const start = Math.min(Math.max(Math.ceil(centre - reach - 0.5), 0), from - 1);
    const stop = Math.min(Math.max(Math.floor(centre + reach - 0.5), 0), from - 1) + 1;
    const weights = Array.from({ length: stop - start }, (_, j) =>
      Math.max(0, 1 - Math.abs(start + j + 0.5 - centre) / reach));
    const sum = weights.reduce((a, b) => a + b);
    return { start, weights: weights.map((weight) => Math.floor(ONE * weight / sum + 0.5)) };
  });
}

// {w, h} of the picture that the model gets of a photograph: the shorter side is `size`, the longer one a multiple of 4,
// as small_size in simgan_tf/carry.py has it.
export function smallSize(width, height, size) {
  const short = Math.min(width, height);
  const small = (side) => Math.max(4, 4 * Math.floor((side * size + 2 * short) / (4 * short)));
  return { w: small(width), h: small(height) };
}

// The whole photograph scaled to w x h: Float32Array of h x w x 3 in [-1, 1]. As Pillow does it, across first, and rounded
// after each of the two ways: a level more or less in a few pixels became 13 of 255 in the edited photograph.
//   readRows(top, bottom): RGBA bytes of these rows; asked for in strips, which are small beside a large photograph.
export function prepare(readRows, width, height, w, h, strip = 256) {
  const across = spans(width, w), down = spans(height, h);
  const sums = new Float64Array(h * w * 3);
  const row = new Float64Array(w * 3);
  let first = 0; // of the new rows, that the old row y still goes into
  for (let top = 0; top < height; top += strip) {
    const end = Math.min(top + strip, height);
    const bytes = readRows(top, end);
    for (let y = top; y < end; y++) {
      narrow(bytes, (y - top) * width * 4, across, row);
      while (down[first].start + down[first].weights.length <= y) first++;
      for (let out = first; out < h && down[out].start <= y; out++) {
        const weight = down[out].weights[y - down[out].start];
        for (let i = 0, to = out * w * 3; i < row.length; i++, to++) sums[to] += weight * row[i];
      }
    }
  }
  return Float32Array.from(sums, (value) => rounded(value) / 127.5 - 1);
}

// A picture of w x h, of which one side is `size`, edited by a model that takes squares alone: as many of them as cover
// it, at even distances; where two overlap, the share of the later one grows from 0 to 1 along the overlap.
//   image: Float32Array of h x w x 3.   edit: async, size x size x 3 numbers to as many.   Gives h x w x 3.
export async function editInSquares(image, w, h, size, edit) {
  const lying = w > h;
  const edited = new Float32Array(image.length), square = new Float32Array(size * size * 3);
  let end = 0; // of the squares before
  for (const start of startsOfSquares(Math.max(w, h), size)) {
    const at = (y, x) => 3 * (lying ? y * w + start + x : (start + y) * w + x);
    for (let y = 0, to = 0; y < size; y++) {
      for (let x = 0; x < size; x++, to += 3) for (let c = 0; c < 3; c++) square[to + c] = image[at(y, x) + c];
    }
    const made = await edit(square);
    for (let y = 0, from = 0; y < size; y++) {
      for (let x = 0; x < size; x++, from += 3) {
        const along = lying ? x : y, to = at(y, x);
        const share = start + along < end ? (along + 0.5) / (end - start) : 1;
        for (let c = 0; c < 3; c++) edited[to + c] += share * (made[from + c] - edited[to + c]);
      }
    }
    end = start + size;
  }
  return edited;
}

// The central square of a picture of w x h, of which one side is `size`, as central_square in simgan_tf/edit.py has it.
export function centralSquare(image, w, h, size) {
  const top = Math.floor((h - size) / 2), left = Math.floor((w - size) / 2);
  const square = new Float32Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    const from = 3 * ((top + y) * w + left);
    square.set(image.subarray(from, from + 3 * size), 3 * size * y);
  }
  return square;
}

// RGBA bytes of a square and its edit, numbers in [-1, 1], mixed by `strength`.
export function toBytes(square, edited, strength) {
  const bytes = new Uint8ClampedArray(square.length / 3 * 4).fill(255);
  square.forEach((value, i) => { // a clamped array rounds and clips by itself
    bytes[4 * Math.floor(i / 3) + i % 3] = 127.5 * (value + strength * (edited[i] - value) + 1);
  });
  return bytes;
}

// Multiples of 4, which the model halves twice: a square that starts elsewhere would be edited a little otherwise.
function startsOfSquares(length, size) {
  const count = Math.ceil(length / size);
  return Array.from({ length: count }, (_, i) => 4 * Math.floor(i * (length - size) / (4 * Math.max(count - 1, 1))));
}

const rounded = (sum) => Math.floor((sum + ONE / 2) / ONE);

// One row of RGBA bytes from `offset` on, filtered along its length into `row` of RGB, rounded.
function narrow(bytes, offset, across, row) {
  across.forEach(({ start, weights }, out) => {
    let red = 0, green = 0, blue = 0;
    for (let j = 0, at = offset + start * 4; j < weights.length; j++, at += 4) {
      red += weights[j] * bytes[at];
      green += weights[j] * bytes[at + 1];
      blue += weights[j] * bytes[at + 2];
    }
    row.set([rounded(red), rounded(green), rounded(blue)], out * 3);
  });
}

// `count` independent standard normal numbers, Float32Array, the same for the same `number`; 0: zeros.
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
