// What a picture file says beside its pixels. About its colours, put into another file: a canvas keeps the numbers of the
// pixels, not what they mean, and a photograph of a phone (Display P3) would come back paler. How coarse a JPEG is. And how
// a PNG or WebP lies.
// Knows no page and no canvas.

const SUM_AT_50 = 3688; // of the 64 numbers by which a JPEG of quality 50 divides lightness (ITU-T T.81, table K.1)
const PNG_CHUNKS = ["iCCP", "sRGB", "gAMA", "cHRM", "cICP"];

// The bytes of `made`, with the colour profile of `original` in place of its own. Both are bytes of JPEG, or both of PNG;
// else `made` as it is. A profile of another kind of colours (grey, CMYK) says nothing of the RGB that a canvas writes.
export function withProfile(original, made) {
  if (isJpeg(original) && isJpeg(made)) {
    const profile = segments(original).filter(isProfile);
    if (!profile.length || text(profile[0], 34, 38) !== "RGB ") return made;
    const own = segments(made).filter((segment) => !isProfile(segment));
    const first = own.findIndex((segment, i) => i > 0 && segment[1] !== 0xe0); // after the start and JFIF's segment
    return joined([...own.slice(0, first), ...profile, ...own.slice(first)]);
  }
  if (isPng(original) && isPng(made)) {
    const grey = !(original[25] & 2);
    const tells = (chunk) => PNG_CHUNKS.includes(text(chunk, 4, 8));
    const profile = chunks(original).filter((chunk) => tells(chunk) && !(grey && text(chunk, 4, 8) === "iCCP"));
    if (!profile.length) return made;
    const [header, ...own] = chunks(made).filter((chunk) => !tells(chunk));
    return joined([made.subarray(0, 8), header, ...profile, ...own]);
  }
  return made;
}

// The quality, 0 to 1, that a canvas takes, of a JPEG's bytes; 0.95 of anything else, or where it cannot be told. As
// export/serving/profiles.py has it: the table of lightness is that of quality 50 times s.
export function quality(bytes) {
  const table = isJpeg(bytes) && segments(bytes).find((segment) => segment[1] === 0xdb && segment.length >= 69 && segment[4] === 0);
  if (!table) return 0.95;
  const total = table.subarray(5, 69).reduce((sum, number) => sum + number, 0), share = total / SUM_AT_50;
  const found = total <= 64 ? 100 : share <= 1 ? 100 - 50 * share : 50 / share; // 64 ones: no finer is possible
  return Math.min(Math.max(Math.round(found), 1), 100) / 100;
}

// How the pixels of a PNG or WebP lie, 1 to 8 as EXIF numbers it, and the file without a word of it: no browser turns a
// WebP, and Firefox no PNG (140 does not), so whoever draws it has to. Of another file 1 and itself: browsers turn a JPEG.
export async function lying(file) {
  const head = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  const webp = text(head, 0, 4) === "RIFF" && text(head, 8, 12) === "WEBP";
  if (!isPng(head) && !webp) return { orientation: 1, plain: file };
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (webp) {
    const exif = webpExif(bytes);
    if (!exif) return { orientation: 1, plain: file };
    bytes.fill(0x20, exif.at, exif.at + 4); // a name that no reader knows: passed over
    return { orientation: orientationOf(exif.content), plain: new Blob([bytes]) };
  }
  const all = chunks(bytes), exif = all.find((chunk) => text(chunk, 4, 8) === "eXIf");
  if (!exif) return { orientation: 1, plain: file };
  const others = all.filter((chunk) => text(chunk, 4, 8) !== "eXIf");
  return { orientation: orientationOf(exif.subarray(8, -4)), plain: new Blob([bytes.subarray(0, 8), ...others]) };
}

// The six numbers of canvas' setTransform that draw a width x height picture upright.
export function upright(orientation, width, height) {
  return [[1, 0, 0, 1, 0, 0], [-1, 0, 0, 1, width, 0], [-1, 0, 0, -1, width, height], [1, 0, 0, -1, 0, height],
    [0, 1, 1, 0, 0, 0], [0, 1, -1, 0, height, 0], [0, -1, -1, 0, height, width], [0, -1, 1, 0, 0, width]][orientation - 1];
}

// EXIF's orientation (tag 0x112 of the first list) of the bytes of its TIFF; 1 where none can be read.
function orientationOf(bytes) {
  const tiff = text(bytes, 0, 4) === "Exif" ? bytes.subarray(6) : bytes;
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength), little = text(tiff, 0, 2) === "II";
  if (tiff.length < 8) return 1;
  const list = view.getUint32(4, little);
  const count = list + 2 <= tiff.length ? view.getUint16(list, little) : 0;
  for (let at = list + 2; at < list + 2 + 12 * count && at + 10 <= tiff.length; at += 12) {
    const number = view.getUint16(at + 8, little);
    if (view.getUint16(at, little) === 0x112) return number >= 1 && number <= 8 ? number : 1;
  }
  return 1;
}

// Where the name of a WebP's EXIF part stands, and its content; undefined without one.
function webpExif(bytes) {
  const view = new DataView(bytes.buffer);
  for (let at = 12; at + 8 <= bytes.length;) {
    const size = view.getUint32(at + 4, true);
    if (text(bytes, at, at + 4) === "EXIF") return { at, content: bytes.subarray(at + 8, at + 8 + size) };
    at += 8 + size + size % 2;
  }
}

export function isJpeg(bytes) {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

function isPng(bytes) {
  return text(bytes, 1, 4) === "PNG";
}

function text(bytes, from, to) {
  return String.fromCharCode(...bytes.subarray(from, to));
}

// A JPEG in parts: its start, its segments, and as the last part all from the scan on.
function segments(bytes) {
  const found = [bytes.subarray(0, 2)];
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda) {
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    found.push(bytes.subarray(at, end));
    at = end;
  }
  return [...found, bytes.subarray(at)];
}

function isProfile(segment) {
  return segment[1] === 0xe2 && text(segment, 4, 16) === "ICC_PROFILE\0";
}

// The chunks of a PNG: length, name, content and checksum each.
function chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = [];
  for (let at = 8; at + 12 <= bytes.length;) {
    const end = at + 12 + view.getUint32(at);
    found.push(bytes.subarray(at, end));
    at = end;
  }
  return found;
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
