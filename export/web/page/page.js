// What a person sees and touches. Words become ids in words.js, photographs and the model live in the worker engine.js.

import { ask, onProgress } from "./ask.js";
import { Box } from "./box.js";
import { Downloads } from "./downloads.js";
import { notesOf } from "./notes.js";
import { checkSize } from "./picture.js";
import { makeTokeniser } from "./words.js";

const of = (id) => document.getElementById(id);
const text = of("text"), toText = of("to-text"), share = of("share"), strength = of("strength");
const state = {
  photo: null, // {number, name}: which one of the worker's, and what people call it
  noise: 0, // number of the noise; 0 is none, for the first result
  ready: false,
};
const downloads = new Downloads(of("files"), of("downloaded"));
const box = new Box(of("frame"), of("box"), () => partChanged());
let site, tokeniser;
onProgress((progress) => downloads.show(progress));
let lastField = text; // where a sentence to try goes

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
    const photo = await ask("open", { file, number: turn }).catch((error) => {
      throw new Error(`${name}: ${error.message}.`);
    });
    if (turn !== pictures) return;
    Object.assign(state, { photo: { number: turn, name }, noise: 0 });
    for (const button of of("samples").children) button.setAttribute("aria-pressed", button === pressed);
    of("stage").style.setProperty("--aspect", photo.width / photo.height);
    box.setPicture(photo.width, photo.height, site.limits.min_side);
    partShown();
    show("before", photo.shown, name);
    await update();
  } catch (error) {
    if (turn === pictures) refuse(error);
  }
}

function refuse(error) {
  complain(error.message);
  say(state.photo ? `Still there: ${state.photo.name}.` : "No picture yet.");
}

function show(id, picture, label) {
  const canvas = of(id);
  Object.assign(canvas, { width: picture.width, height: picture.height });
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(picture);
  canvas.setAttribute("aria-label", label);
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
  const problem = state.photo ? refusals.find(Boolean) : "Choose a picture first.";
  if (problem) {
    complain(problem);
    return;
  }
  try {
    say("Editing ...");
    const wanted = {
      number: state.photo.number, box: box.value, ids: tokeniser.ids(text.value),
      toIds: blended ? tokeniser.ids(toText.value) : null, share: part, noise: state.noise,
      strength: strength.value / 100,
    };
    const { shown: picture, milliseconds } = await ask("edit", wanted);
    const shown = part === 0 ? sentences[0] : part === 1 ? sentences[1]
      : `${Math.round(part * 100)} % from "${sentences[0]}" to "${sentences[1]}"`;
    show("after", picture, shown);
    complain("");
    const time = milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
    say(`Edited in ${time}${wanted.noise ? `: result ${wanted.noise + 1}` : ""}.`);
    Object.assign(of("after").dataset, { result: wanted.noise + 1, milliseconds: milliseconds.toFixed(1) });
    of("save").disabled = false;
  } catch (error) {
    complain(`This edit failed: ${error.message}.`);
    say("");
  }
}

// ---- sentences ----

function sentencesChanged() {
  const lines = tokeniser ? [text, toText].flatMap((field) => notesOf(field.value, site.contract, tokeniser)) : [];
  of("notes").replaceChildren(...[...new Set(lines)].map((line) => {
    const note = document.createElement("p");
    note.textContent = line;
    return note;
  }));
  share.disabled = !state.ready || !toText.value.trim();
  of("from-end").textContent = text.value.trim();
  of("to-end").textContent = toText.value.trim() || "write a second sentence for this";
}

function shareChanged() {
  of("share-shown").textContent = `${share.value} %`;
  share.setAttribute("aria-valuetext", `${share.value} percent towards the second sentence`);
}

function strengthChanged() {
  of("strength-shown").textContent = `${strength.value} %`;
}

// ---- the part ----

function partShown() {
  of("part").setAttribute("aria-pressed", Boolean(box.value));
  of("part-shown").hidden = of("box-keys").hidden = !box.value;
  of("part-shown").textContent = box.value ? `Only this part: ${box.words()}.` : "";
}

function partChanged() {
  partShown();
  update();
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
strength.addEventListener("input", () => {
  strengthChanged();
  update();
});
of("part").addEventListener("click", () => {
  if (box.value) box.set(null);
  else box.setMiddle();
  if (box.value) of("box").focus({ preventScroll: true }); // so that keys move it at once
  partChanged();
});
of("another").addEventListener("click", () => {
  state.noise += 1;
  update();
});
of("first").addEventListener("click", () => {
  state.noise = 0;
  update();
});
of("save").addEventListener("click", async () => {
  const label = of("after").getAttribute("aria-label").toLowerCase();
  const { result } = of("after").dataset;
  try {
    const file = await ask("save");
    const words = (label.match(/[a-z0-9]+/g) ?? ["edit"]).join("-").slice(0, 60);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `${words}${result > 1 ? `-${result}` : ""}.${file.type === "image/jpeg" ? "jpg" : "png"}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    say(`Saved as ${link.download}.`);
  } catch (error) {
    complain(`Saving failed: ${error.message}.`);
  }
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
  const vocabulary = site.vocabulary ? await (await load(site.vocabulary)).text() : null;
  tokeniser = makeTokeniser(tokens, vocabulary);
  downloads.expect(site);
  showSamples();
  showSentences();
  text.value ||= site.sentences[0] ?? "";
  const { threads, milliseconds } = await ask("start", { site, threads: wantedThreads() });
  downloads.finish();
  state.ready = true;
  const draws = "noise" in site.contract.signatures.edit.inputs; // else there is one result for each sentence
  const keeps = site.contract.keeps_picture !== false; // else it draws a square anew, of which no part can be chosen
  for (const id of ["edit", "strength", ...(keeps ? ["part"] : []), ...(draws ? ["another", "first"] : [])]) {
    of(id).disabled = false;
  }
  sentencesChanged();
  shareChanged();
  strengthChanged();
  of("downloads").open = false;
  of("facts").textContent = `${site.contract.method} after ${site.contract.step} steps, which sees `
    + `${site.contract.image.size}x${site.contract.image.size} pixels`
    + `${keeps ? "" : " and draws its own square of the picture anew"}; started in ${Math.round(milliseconds)} ms; `
    + (threads > 1 ? `${threads} threads` : "1 thread")
    + (threads === wantedThreads() ? "." : self.crossOriginIsolated
      ? " (more need a browser with relaxed SIMD, which Firefox 140 is not)."
      : " (more need the headers COOP and COEP from the server).");
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
