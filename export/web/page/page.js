// What a person sees and touches. Words become ids in words.js, pixels and the model live in the worker engine.js.

import { Downloads } from "./downloads.js";
import { checkSize } from "./picture.js";
import { toPixels } from "./pixels.js";
import { makeTokeniser } from "./words.js";

const of = (id) => document.getElementById(id);
const text = of("text"), toText = of("to-text"), share = of("share");
const state = {
  image: null, // what the model sees, Float32Array of size x size x 3
  name: "", // of the picture, for people
  noise: 0, // number of the noise; 0 is the mean edit
  ready: false,
};
const downloads = new Downloads(of("files"), of("downloaded"));
let site, tokeniser;
let lastField = text; // where a sentence to try goes

// ---- the worker: ask(verb, value) -> what it gives ----

const engine = new Worker(new URL("engine.js", import.meta.url));
const asked = new Map();
let asks = 0;

function ask(verb, value) {
  return new Promise((resolve, reject) => {
    asked.set(++asks, { resolve, reject });
    engine.postMessage({ id: asks, verb, value });
  });
}

engine.onmessage = ({ data }) => {
  if (data.progress) return downloads.show(data.progress);
  const { resolve, reject } = asked.get(data.id);
  asked.delete(data.id);
  return "error" in data ? reject(new Error(data.error)) : resolve(data.value);
};
engine.onerror = (event) => {
  for (const { reject } of asked.values()) reject(new Error(event.message || "engine.js could not be loaded"));
  asked.clear();
};

// ---- messages ----

function say(message) {
  of("status").textContent = message;
}

function complain(message) {
  of("error").hidden = !message;
  if (of("error").textContent !== message) of("error").textContent = message;
}

// ---- the picture ----

let pictures = 0; // so that only the last one chosen is shown

// turn: drawn when the person chose; pressed: the sample's button, of a sample
async function take(file, name, turn = ++pictures, pressed = null) {
  try {
    await started;
    say(`Reading ${name} ...`);
    await checkSize(file, name, site.limits);
    const image = await ask("prepare", file).catch(() => {
      throw new Error(`${name} is damaged, or of a kind that this browser cannot read. Take a JPEG, PNG or WebP.`);
    });
    if (turn !== pictures) return;
    Object.assign(state, { image, name });
    for (const button of of("samples").children) button.setAttribute("aria-pressed", button === pressed);
    paint("before", image, name);
    await update();
  } catch (error) {
    if (turn === pictures) refuse(error);
  }
}

function refuse(error) {
  complain(error.message);
  say(state.image ? `Still there: ${state.name}.` : "No picture yet.");
}

function paint(id, image, label) {
  const { size } = site.contract.image;
  const canvas = of(id);
  canvas.width = canvas.height = size;
  canvas.getContext("2d").putImageData(new ImageData(toPixels(image), size, size), 0, 0);
  canvas.setAttribute("aria-label", label);
  canvas.classList.add("painted");
}

async function takeSample(sample, button) {
  const turn = ++pictures;
  const picture = await load(sample.file).then((response) => response.blob()).catch(() => null);
  if (turn !== pictures) return;
  if (picture) return take(picture, sample.name, turn, button);
  refuse(new Error(`${sample.file} could not be loaded. Reload the page, or choose a picture.`));
}

// ---- the edit: one at a time, and after it the newest wish only ----

let busy = false, wish = false;

async function update() {
  wish = true;
  if (busy || !state.ready) return;
  busy = true;
  document.body.classList.add("busy");
  try {
    while (wish) {
      wish = false;
      await editOnce();
    }
  } finally {
    busy = false;
    document.body.classList.remove("busy");
  }
}

async function editOnce() {
  const sentences = [text.value, toText.value].map((words) => words.trim());
  const blended = sentences[1] !== "";
  const part = blended ? share.value / 100 : 0;
  const refusals = (blended ? sentences : sentences.slice(0, 1)).map(tokeniser.refusal);
  const problem = state.image ? refusals.find(Boolean) : "Choose a picture first.";
  if (problem) {
    complain(problem);
    return;
  }
  try {
    say("Editing ...");
    const noise = state.noise;
    const { edited, milliseconds } = await ask("edit", {
      image: state.image, ids: tokeniser.ids(text.value), toIds: blended ? tokeniser.ids(toText.value) : null,
      share: part, noise,
    });
    const shown = part === 0 ? sentences[0] : part === 1 ? sentences[1]
      : `${Math.round(part * 100)} % from "${sentences[0]}" to "${sentences[1]}"`;
    paint("after", edited, shown);
    complain("");
    const time = milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
    say(`Edited in ${time} (${noise ? `noise ${noise}` : "the mean"}).`);
    Object.assign(of("after").dataset, { noise, milliseconds: milliseconds.toFixed(1), share: part });
    of("save").disabled = false;
  } catch (error) {
    complain(`This edit failed: ${error.message}.`);
    say("");
  }
}

// ---- sentences ----

function sentencesChanged() {
  const words = tokeniser ? [text, toText].flatMap((field) => tokeniser.unknown(field.value)) : [];
  of("unknown").hidden = !words.length;
  of("unknown").textContent = words.length ? `Unknown to the model: ${[...new Set(words)].join(", ")}` : "";
  share.disabled = !state.ready || !toText.value.trim();
  of("from-end").textContent = text.value.trim();
  of("to-end").textContent = toText.value.trim() || "write a second sentence for this";
}

function shareChanged() {
  of("share-shown").textContent = `${share.value} %`;
  share.setAttribute("aria-valuetext", `${share.value} percent towards the second sentence`);
}

// ---- what is pressed ----

of("form").addEventListener("submit", (event) => {
  event.preventDefault();
  update();
});
for (const field of [text, toText]) {
  field.addEventListener("input", sentencesChanged);
  field.addEventListener("focus", () => { lastField = field; });
}
share.addEventListener("input", () => {
  shareChanged();
  update();
});
of("another").addEventListener("click", () => {
  state.noise += 1;
  update();
});
of("mean").addEventListener("click", () => {
  state.noise = 0;
  update();
});
of("save").addEventListener("click", () => {
  of("after").toBlob((blob) => {
    const link = document.createElement("a");
    const label = of("after").getAttribute("aria-label").toLowerCase();
    const words = (label.match(/[a-z0-9]+/g) ?? ["edit"]).join("-").slice(0, 60);
    link.href = URL.createObjectURL(blob);
    link.download = `${words}-noise-${of("after").dataset.noise}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    say(`Saved as ${link.download}.`);
  }, "image/png");
});

function takeFirst(files) {
  const file = files?.[0];
  if (file) take(file, file.name);
  else complain("That was no file. Save the picture first, then choose or drop its file.");
}

of("file").addEventListener("change", (event) => {
  if (event.target.files.length) takeFirst(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) takeFirst(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  of("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) of("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  of("drop").classList.remove("over");
  takeFirst(event.dataTransfer.files);
});

// ---- start ----

async function load(name) {
  const response = await fetch(name).catch((error) => ({ statusText: error.message }));
  if (!response.ok) {
    throw new Error(`${name} could not be loaded (${response.status ?? ""} ${response.statusText}): `
      + "the whole site folder has to be on the server");
  }
  return response;
}

function showSamples() {
  for (const sample of site.samples) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = sample.name;
    button.setAttribute("aria-pressed", "false");
    const picture = new Image();
    picture.src = sample.file;
    picture.alt = sample.name;
    button.append(picture);
    button.addEventListener("click", () => takeSample(sample, button));
    of("samples").append(button);
  }
}

function showSentences() {
  for (const sentence of site.sentences) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = sentence;
    button.addEventListener("click", () => {
      lastField.value = sentence;
      sentencesChanged();
      update();
    });
    of("sentences").append(button);
  }
}

function wantedThreads() {
  const wanted = Number(new URLSearchParams(location.search).get("threads")); // ?threads=1, to compare
  return Number.isInteger(wanted) && wanted > 0 ? wanted : Math.min(navigator.hardwareConcurrency || 1, 4);
}

async function start() {
  say("Downloading the model ...");
  site = await (await load("site.json")).json();
  const { tokens } = site.contract;
  tokeniser = makeTokeniser(tokens, site.vocabulary ? await (await load(site.vocabulary)).text() : null);
  downloads.expect(site);
  showSamples();
  showSentences();
  text.value ||= site.sentences[0] ?? "";
  const { threads, milliseconds } = await ask("start", { site, threads: wantedThreads() });
  downloads.finish();
  state.ready = true;
  for (const id of ["edit", "another", "mean"]) of(id).disabled = false;
  sentencesChanged();
  shareChanged();
  of("downloads").open = false;
  of("facts").textContent = `${site.contract.method} after ${site.contract.step} steps, pictures of `
    + `${site.contract.image.size}x${site.contract.image.size}; started in ${Math.round(milliseconds)} ms; `
    + (threads > 1 ? `${threads} threads.` : "1 thread"
      + (self.crossOriginIsolated ? "." : " (more need the headers COOP and COEP from the server)."));
  say("Ready.");
}

const started = start();
started.then(
  () => pictures || !site.samples.length || takeSample(site.samples[0], of("samples").firstElementChild),
  (error) => {
    complain(`The model did not start: ${error.message}.`);
    say("Reload the page to try again.");
  },
);
