// Refuses the picture files that Python refuses, by their headers alone: a huge picture is never decoded.
// file: a Blob.   name: for messages.   The limits are those of data/geometry.py, from site.json.
// Throws an Error that says what is wrong and what to do.
export async function checkSize(file, name, { max_pixels: most, max_aspect: aspect, min_side: least }) {
  const url = URL.createObjectURL(file);
  const probe = new Image();
  probe.src = url;
  try {
    await new Promise((resolve, reject) => { probe.onload = resolve; probe.onerror = reject; });
  } catch {
    throw new Error(`${name} is not a picture that this browser can read. Take a JPEG, PNG or WebP.`);
  } finally {
    URL.revokeObjectURL(url);
  }
  const { naturalWidth: width, naturalHeight: height } = probe;
  if (width * height > most) {
    throw new Error(`${name} is ${width}x${height}, over ${most / 1e6} million pixels. Make it smaller.`);
  }
  if (Math.min(width, height) < least) {
    throw new Error(`${name} is ${width}x${height}. Both sides need ${least} pixels or more.`);
  }
  if (Math.max(width, height) > aspect * Math.min(width, height)) {
    throw new Error(`${name} is ${width}x${height}. The longer side may be ${aspect} times the shorter at most.`);
  }
}
