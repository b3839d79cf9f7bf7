// A worker that holds the model: downloads it and LiteRT.js, prepares pictures, edits them.
// Knows nothing of the page but its messages: {id, verb, value} in, {id, value} or {id, error} out, and {progress}.
// No module: LiteRT.js loads its own script by importScripts, which modules do not have.

const verbs = { start, prepare, edit };
let site, model, parts, Tensor;
const embeddings = new Map(); // ids -> phi, of the last sentences

self.onmessage = async ({ data: { id, verb, value } }) => {
  try {
    self.postMessage({ id, value: await verbs[verb](value) });
  } catch (error) {
    self.postMessage({ id, error: error?.message ?? String(error) });
  }
};

// Downloads and starts everything. value: {site: content of site.json, threads: wanted}; gives {threads, milliseconds}.
async function start(value) {
  site = value.site;
  parts = await import("./pixels.js");
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

// value: a picture file. Gives the model's view of it, Float32Array. Upright by EXIF and on white, as in Python.
async function prepare(file) {
  const picture = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const { width, height } = picture;
  const canvas = new OffscreenCanvas(width, Math.min(height, 256));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const readRows = (top, bottom) => {
    pen.fillStyle = "white";
    pen.fillRect(0, 0, width, canvas.height);
    pen.drawImage(picture, 0, top, width, bottom - top, 0, 0, width, bottom - top);
    return pen.getImageData(0, 0, width, bottom - top).data;
  };
  const { size, load_size: loadSize } = site.contract.image;
  const image = parts.prepare(readRows, width, height, size, loadSize, canvas.height);
  picture.close();
  return image;
}

// value: {image, ids, toIds, share, noise: its number}. Gives {edited: Float32Array, milliseconds}.
async function edit({ image, ids, toIds, share, noise }) {
  const begin = performance.now();
  let embedding = await embed(ids);
  if (share > 0) embedding = parts.mix(embedding, await embed(toIds), share);
  const { size } = site.contract.image;
  const inputs = { image: [image, [1, size, size, 3]], embedding: [embedding, [1, embedding.length]] };
  const drawn = site.contract.signatures.edit.inputs.noise; // a model that draws nothing has no such input
  if (drawn) inputs.noise = [parts.drawNoise(drawn.shape[1], noise), drawn.shape];
  const { edited } = await run("edit", inputs);
  return { edited, milliseconds: performance.now() - begin };
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
