// A worker that holds the model: downloads it and LiteRT.js, opens photographs, edits them at their own size, saves them.
// Knows nothing of the page but its messages: {id, verb, value} in, {id, value} or {id, error} out, and {progress}.
// No module: LiteRT.js loads its own script by importScripts, which modules do not have.

const verbs = { start, open, edit, save };
const SHOWN = 2 ** 24; // pixels to show at most: some browsers' canvases on a page hold no more; saved are all
const STRIP = 256; // rows at a time: what is read of a canvas is a copy
let site, model, parts, Tensor;
const embeddings = new Map(); // ids -> phi, of the last sentences
const photos = new Map(); // number -> {file, width, height, pen: of a canvas with all of it}
let change = {}; // of the last edit: {key, maps}; its strength alone needs no model
let result = null; // the last edit: {photo, canvas}

self.onmessage = async ({ data: { id, verb, value } }) => {
  try {
    const given = await verbs[verb](value);
    self.postMessage({ id, value: given }, given?.shown ? [given.shown] : []);
  } catch (error) {
    self.postMessage({ id, error: error?.message ?? String(error) });
  }
};

// Downloads and starts everything. value: {site: content of site.json, threads: wanted}; gives {threads, milliseconds}.
async function start(value) {
  site = value.site;
  parts = Object.assign({}, ...await Promise.all(["pixels", "carry", "profile"].map((name) => import(`./${name}.js`))));
  const litert = await import("./litert/index.js");
  Tensor = litert.Tensor;
  const simd = await litert.supportsFeature("relaxedSimd");
  // Threads share memory, which browsers allow only to pages sent with COOP and COEP headers.
  const threads = simd && self.crossOriginIsolated ? value.threads : 1;
  const flavour = threads > 1 ? "threaded_" : simd ? "" : "compat_";
  const script = new URL(`litert/litert_wasm_${flavour}internal.js`, self.location).href;
  const [wasm, bytes] = await Promise.all([
    download(`litert/litert_wasm_${flavour}internal.wasm.gz`).then(unpacked),
    download(site.model),
  ]);
  const begin = performance.now();
  self.Module = { wasmBinary: wasm, mainScriptUrlOrBlob: script };
  await litert.loadLiteRt(script);
  model = await litert.loadAndCompile(bytes, { accelerator: "wasm", cpuOptions: { numThreads: threads } });
  return { threads, milliseconds: performance.now() - begin };
}

// The bytes of a file of the site, with messages of how many are there. Throws an Error that says what to do.
async function download(name) {
  const response = await fetch(new URL(name, self.location)).catch((error) => ({ statusText: error.message }));
  if (!response.ok) {
    throw new Error(`${name} could not be loaded (${response.status ?? ""} ${response.statusText}): `
      + "the whole site folder has to be on the server");
  }
  const reader = response.body.getReader();
  const chunks = [];
  let done = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    chunks.push(part.value);
    done += part.value.length;
    self.postMessage({ progress: { name, done, total: site.files[name] } });
  }
  if (done < site.files[name] && !name.endsWith(".gz")) {
    throw new Error(`${name} has ${done} of ${site.files[name]} bytes: reload the page, or copy the site again`);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

// Some servers declare .gz files as packed for the journey, so that the browser has unpacked them already.
async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// value: {file, number: a new one}. Gives {width, height, shown: ImageBitmap}. Upright by EXIF and on white, as in Python.
async function open({ file, number }) {
  const { orientation, plain } = await parts.lying(file);
  const picture = await createImageBitmap(plain, { imageOrientation: "from-image", colorSpaceConversion: "none" })
    .catch(() => {
      throw new Error("it is damaged, or of a kind that this browser cannot read; take a JPEG, PNG or WebP");
    });
  const [width, height] = orientation < 5 ? [picture.width, picture.height] : [picture.height, picture.width];
  const pen = canvasPen(width, height);
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingEnabled = false; // a turned pixel is still one pixel
  pen.setTransform(...parts.upright(orientation, picture.width, picture.height));
  pen.drawImage(picture, 0, 0);
  pen.resetTransform();
  picture.close();
  const head = new Uint8Array(await file.slice(0, 25).arrayBuffer());
  if (head[0] === 0x89 && head[24] === 16 && isBlack(pen, width, height)) { // a PNG of 16 bits a colour
    throw new Error("it has 16 bits a colour of which the upper 4 are empty, as of 12 bits in 16; save it with 8 bits");
  }
  photos.set(number, { file, width, height, pen });
  return { width, height, shown: await shown(pen.canvas) };
}

// Whether no colour of a canvas is above 16 of 255: what browsers make of 12 bits in 16 (Firefox rounds 4095 up).
function isBlack(pen, width, height) {
  for (let top = 0; top < height; top += STRIP) {
    const pixels = pen.getImageData(0, top, width, Math.min(STRIP, height - top)).data;
    if (pixels.some((value, i) => i % 4 < 3 && value > 16)) return false;
  }
  return true;
}

// value: {number: of a photograph, box: the part to change or null (of a model that draws anew, unheard), ids, toIds, share, noise: its number, strength}.
// Gives {shown: ImageBitmap, milliseconds}. Photographs opened before this one are forgotten.
async function edit({ number, box, ids, toIds, share, noise, strength }) {
  const begin = performance.now();
  const photo = photos.get(number);
  for (const earlier of photos.keys()) if (earlier < number) photos.delete(earlier);
  if (site.contract.keeps_picture === false) {
    result = { photo, canvas: await drawnAnew(photo, ids, toIds, share, noise, strength) };
    return { shown: await shown(result.canvas), milliseconds: performance.now() - begin };
  }
  const area = box ?? { x: 0, y: 0, width: photo.width, height: photo.height };
  const key = JSON.stringify([number, area, [...ids], toIds && [...toIds], share, noise]);
  if (change.key !== key) change = { key, maps: await changeOf(photo, area, ids, toIds, share, noise) };
  const maps = { ...change.maps, maps: change.maps.maps.map((value) => strength * value) };
  const pen = canvasPen(photo.width, photo.height);
  if (box) paintPart(photo, box, maps, pen);
  else paintWhole(photo, maps, pen);
  result = { photo, canvas: pen.canvas };
  return { shown: await shown(pen.canvas), milliseconds: performance.now() - begin };
}

// What the model changes about an area of the photograph, as carry.js fits it.
async function changeOf(photo, { x, y, width, height }, ids, toIds, share, noise) {
  const { size } = site.contract.image;
  const { w, h } = parts.smallSize(width, height, size);
  const readRows = (top, bottom) => photo.pen.getImageData(x, y + top, width, bottom - top).data;
  const small = parts.prepare(readRows, width, height, w, h, STRIP);
  const editSquare = await squareEditor(ids, toIds, share, noise);
  return parts.fit(small, await parts.editInSquares(small, w, h, size, editSquare), w, h);
}

// async: size x size x 3 numbers of a square to those of its edit.
async function squareEditor(ids, toIds, share, noise) {
  const { size } = site.contract.image;
  let embedding = await embed(ids);
  if (share > 0) embedding = parts.mix(embedding, await embed(toIds), share);
  const inputs = { embedding: [embedding, [1, embedding.length]] };
  const drawn = site.contract.signatures.edit.inputs.noise; // a model that draws nothing has no such input
  if (drawn) inputs.noise = [parts.drawNoise(drawn.shape[1], noise), drawn.shape];
  return async (image) => (await run("edit", { image: [image, [1, size, size, 3]], ...inputs })).edited;
}

// What a model that keeps no picture draws of the photograph's central square: a canvas of the trained size.
async function drawnAnew({ pen, width, height }, ids, toIds, share, noise, strength) {
  const { size } = site.contract.image;
  const { w, h } = parts.smallSize(width, height, size);
  const readRows = (top, bottom) => pen.getImageData(0, top, width, bottom - top).data;
  const square = parts.centralSquare(parts.prepare(readRows, width, height, w, h, STRIP), w, h, size);
  const made = await (await squareEditor(ids, toIds, share, noise))(square);
  const own = canvasPen(size, size);
  own.putImageData(new ImageData(parts.toBytes(square, made, strength), size, size), 0, 0);
  return own.canvas;
}

function paintWhole(photo, maps, pen) {
  for (let top = 0; top < photo.height; top += STRIP) {
    const rows = photo.pen.getImageData(0, top, photo.width, Math.min(STRIP, photo.height - top));
    parts.apply(maps, rows.data, photo.width, photo.height, top);
    pen.putImageData(rows, 0, top);
  }
}

// The box is read with a pixel around it where the photograph goes on: so putBack knows which of its sides are edges.
function paintPart(photo, box, maps, pen) {
  const left = Math.max(box.x - 1, 0), right = Math.min(box.x + box.width + 1, photo.width);
  const top = Math.max(box.y - 1, 0), bottom = Math.min(box.y + box.height + 1, photo.height);
  const around = photo.pen.getImageData(left, top, right - left, bottom - top);
  const part = photo.pen.getImageData(box.x, box.y, box.width, box.height);
  parts.apply(maps, part.data, box.width, box.height);
  parts.putBack(around.data, around.width, around.height, part.data, { ...box, x: box.x - left, y: box.y - top });
  pen.drawImage(photo.pen.canvas, 0, 0);
  pen.putImageData(around, left, top);
}

// The last edit as a file: a JPEG of its photograph's quality of a JPEG, of everything else a PNG; with its colour profile.
async function save() {
  const original = new Uint8Array(await result.photo.file.arrayBuffer());
  const type = parts.isJpeg(original) ? "image/jpeg" : "image/png";
  const file = await result.canvas.convertToBlob({ type, quality: parts.quality(original) });
  return new Blob([parts.withProfile(original, new Uint8Array(await file.arrayBuffer()))], { type });
}

function canvasPen(width, height) {
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!pen) throw new Error(`${width}x${height} pixels are too many for this browser's memory; take a smaller picture`);
  return pen;
}

function shown(canvas) {
  const scale = Math.min(1, Math.sqrt(SHOWN / (canvas.width * canvas.height)));
  return createImageBitmap(canvas, scale < 1
    ? { resizeWidth: Math.round(scale * canvas.width), resizeHeight: Math.round(scale * canvas.height),
      resizeQuality: "medium" } : {});
}

// phi of ids, remembered: a slider asks for the same two again and again.
async function embed(ids) {
  const key = ids.join();
  if (!embeddings.has(key)) {
    if (embeddings.size > 20) embeddings.clear();
    embeddings.set(key, (await run("embed", { tokens: [ids, [1, ids.length]] })).embedding);
  }
  return embeddings.get(key);
}

// One signature of the model: {name: [array, shape]} -> {name: array}. LiteRT's memory is given back by hand.
async function run(signature, inputs) {
  const tensors = [];
  try {
    const feeds = {};
    for (const [name, [array, shape]] of Object.entries(inputs)) tensors.push(feeds[name] = new Tensor(array, shape));
    const results = await model.run(signature, feeds);
    tensors.push(...Object.values(results));
    const arrays = {};
    for (const [name, tensor] of Object.entries(results)) arrays[name] = (await tensor.data()).slice();
    return arrays;
  } finally {
    for (const tensor of tensors) tensor.delete();
  }
}
