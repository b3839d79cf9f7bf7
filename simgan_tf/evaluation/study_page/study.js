// One person's ranking of the results that questions.js names (STUDY). Nothing leaves the device: answers stay in the
// browser's store until the person saves them as a file.

"use strict";

const of = (id) => document.getElementById(id);
const letter = (i) => String.fromCharCode(65 + i);
const FAR = 6; // CSS pixels a pointer moves before it drags
const ORDINALS = ["1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th"];

// ---- what is kept ----

const STORE = `simgan-study-${STUDY.study}`;
const steps = STUDY.questions.length * STUDY.criteria.length;
let state = kept() ?? begun();

function shuffled(list) {
  const mixed = [...list];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }
  return mixed;
}

// A new subject: a number of their own, the questions in an order of their own, and so the results of each.
function begun() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return {
    subject: Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""),
    step: 0,
    order: shuffled(STUDY.questions.map((_, i) => i)),
    shown: STUDY.questions.map((question) => shuffled(question.pictures)),
    // of each question and criterion the picture at each rank, null where there is none yet
    ranked: STUDY.questions.map(({ pictures }) => STUDY.criteria.map(() => pictures.map(() => null))),
  };
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem(STORE));
  } catch {
    return null;
  }
}

let warned = false;
function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify(state));
  } catch {
    if (!warned) complain("This browser keeps nothing: do not close or reload this page before the end.");
    warned = true;
  }
}

function complain(message) {
  of("problem").textContent = message;
  of("problem").hidden = false;
}

// ---- where we are ----

const place = () => {
  const number = state.order[Math.floor(state.step / STUDY.criteria.length)];
  const criterion = state.step % STUDY.criteria.length;
  return { number, criterion, shown: state.shown[number], ranks: state.ranked[number][criterion] };
};
const isWhole = (ranks) => ranks.every((picture) => picture !== null);
const done = () => state.ranked.flat().filter(isWhole).length;
const nameOf = (picture) => `Result ${letter(place().shown.indexOf(picture))}`;
const address = (picture) => `pictures/${picture}.png`;

// ---- the page ----

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// focus: whether the person came here by a button, so that a screen reader reads on from the question
function show(focus) {
  const finished = state.step === steps;
  of("task").hidden = finished;
  of("end").hidden = !finished;
  if (finished) {
    of("saved").textContent = "";
    if (focus) of("thanks").focus();
    return;
  }
  const { number, criterion, shown } = place();
  const question = STUDY.questions[number], count = shown.length;
  const photograph = Math.floor(state.step / STUDY.criteria.length) + 1;
  of("where").textContent = `Photograph ${photograph} of ${STUDY.questions.length}, `
    + `question ${criterion + 1} of ${STUDY.criteria.length}: ${STUDY.criteria[criterion].name}`;
  of("ask").textContent = STUDY.criteria[criterion].question;
  of("source").src = address(question.source);
  of("sentence").textContent = question.sentence;
  of("about").hidden = state.step > 0; // so that a phone shows the pictures at once
  of("how").replaceChildren(
    "Tap the results from best to worst; tap one again to take it back. Or drag it to its place, with a finger by its ",
    element("span", { textContent: "\u2807", ariaHidden: "true" }), ".",
    element("span", { className: "keys", textContent: ` Or with a result in focus press its rank, 1 to ${count}; arrow `
      + "keys move it, Delete takes it back." }),
  );
  of("results").replaceChildren(...shown.map((picture, i) => {
    const image = element("img", { src: address(picture), alt: "", draggable: false });
    const pick = element("button", { type: "button", className: "pick" }, image, element("span", { textContent: letter(i) }));
    pick.dataset.result = picture;
    const grip = element("span", { className: "grip", textContent: "\u2807" });
    const rank = element("span", { className: "rank" });
    for (const sight of [grip, rank]) sight.setAttribute("aria-hidden", "true");
    return element("div", { className: "result" }, pick, grip, rank);
  }));
  say("");
  update();
  if (focus) of("ask").focus();
  scrollTo(0, 0);
}

// What follows from the ranks alone.
function update() {
  const { ranks } = place(), count = ranks.length;
  for (const card of of("results").children) {
    const pick = card.querySelector(".pick"), rank = ranks.indexOf(pick.dataset.result) + 1;
    const words = rank ? `rank ${rank} of ${count}` : "not ranked";
    pick.setAttribute("aria-label", `${nameOf(pick.dataset.result)}, ${words}`);
    if (rank) pick.dataset.rank = rank;
    else delete pick.dataset.rank;
    card.querySelector(".rank").textContent = rank;
    card.querySelector(".rank").hidden = !rank;
  }
  of("places").replaceChildren(...ranks.map((picture, i) => {
    const words = i === 0 ? "1 best" : i === count - 1 ? `${count} worst` : `${i + 1}`;
    const item = element("li", {}, element("span", { textContent: words }));
    item.dataset.place = i;
    if (picture === null) {
      item.prepend(element("span", { className: "thumb" }));
      return item;
    }
    item.dataset.result = picture;
    item.prepend(element("img", { className: "thumb", src: address(picture), alt: nameOf(picture), draggable: false }));
    return item;
  }));
  of("back").disabled = state.step === 0;
  of("next").disabled = !isWhole(ranks);
  of("next").textContent = state.step === steps - 1 ? "To the end" : "Next";
  of("progress").max = steps;
  of("progress").value = done();
  keep();
}

function say(message) {
  const left = place().ranks.filter((picture) => picture === null).length;
  const after = left ? `${left} still to rank.` : "All ranked: go on with Next, or change the order.";
  of("status").textContent = `${message} ${after}`.trim();
}

// ---- ranking ----

// Puts a picture at a rank (from 0), and what was there where the picture comes from; a rank of -1 takes it back.
function rankAt(picture, rank) {
  const { ranks } = place(), from = ranks.indexOf(picture);
  if (rank === from) return;
  const other = rank < 0 ? null : ranks[rank];
  if (from >= 0) ranks[from] = other;
  if (rank >= 0) ranks[rank] = picture;
  update();
  const where = rank < 0 ? "is not ranked now" : `is ${ORDINALS[rank]} now`;
  const moved = other === null ? "" : ` ${nameOf(other)} is ${from < 0 ? "not ranked" : ORDINALS[from]} now.`;
  say(`${nameOf(picture)} ${where}.${moved}`);
}

function toggle(picture) {
  const { ranks } = place();
  rankAt(picture, ranks.includes(picture) ? -1 : ranks.indexOf(null));
}

of("results").addEventListener("click", (event) => {
  const pick = event.target.closest(".pick");
  if (pick && !ofDrag(event)) toggle(pick.dataset.result);
});

of("results").addEventListener("keydown", (event) => {
  const pick = event.target.closest(".pick");
  if (!pick || event.ctrlKey || event.altKey || event.metaKey) return;
  const { ranks } = place(), picture = pick.dataset.result, rank = ranks.indexOf(picture);
  const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (/^[1-9]$/.test(event.key) && Number(event.key) <= ranks.length) rankAt(picture, Number(event.key) - 1);
  else if (event.key === "Delete" || event.key === "Backspace") rankAt(picture, -1);
  else if (way && rank >= 0) rankAt(picture, Math.min(Math.max(rank + way, 0), ranks.length - 1));
  else return;
  event.preventDefault();
});

// ---- dragging: a result by the mouse anywhere and by a finger at its grip; a place by both ----

let drag = null, justDragged = false;

addEventListener("pointerdown", (event) => {
  if (drag?.ghost) return; // a second finger
  justDragged = false;
  const held = event.target.closest(".result, #places li[data-result]");
  const byGrip = event.target.closest(".grip, #places li");
  if (!held || event.button !== 0 || (event.pointerType !== "mouse" && !byGrip)) return;
  const picture = held.dataset.result ?? held.querySelector(".pick").dataset.result;
  drag = { picture, held, pointer: event.pointerId, x: event.clientX, y: event.clientY, ghost: null };
});

addEventListener("pointermove", (event) => {
  if (event.pointerId !== drag?.pointer) return;
  if (!drag.ghost) {
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < FAR) return;
    drag.ghost = element("img", { className: "ghost", src: address(drag.picture), alt: "" });
    document.body.append(drag.ghost);
    drag.held.setPointerCapture(event.pointerId);
  }
  drag.ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px)`;
  const over = placeUnder(event);
  for (const item of of("places").children) item.classList.toggle("over", item === over);
});

// Whether a click is only what a browser sends when a drag ends. Until a pointer goes down again there is no other, but
// by the keyboard, whose clicks count none.
const ofDrag = (event) => justDragged && event.detail > 0;

function placeUnder(event) {
  return document.elementFromPoint(event.clientX, event.clientY)?.closest("#places li") ?? null;
}

function letGo(event, drop) {
  if (event.pointerId !== drag?.pointer) return;
  const { picture, ghost } = drag;
  const over = placeUnder(event);
  drag = null;
  ghost?.remove();
  for (const item of of("places").children) item.classList.remove("over");
  justDragged = Boolean(ghost);
  if (drop && ghost && over) rankAt(picture, Number(over.dataset.place));
}
addEventListener("pointerup", (event) => letGo(event, true));
addEventListener("pointercancel", (event) => letGo(event, false));

of("places").addEventListener("click", (event) => {
  const item = event.target.closest("li[data-result]");
  if (item && !ofDrag(event)) rankAt(item.dataset.result, -1);
});

// ---- to and fro, and the end ----

function go(step) {
  state.step = step;
  keep();
  show(true);
}
of("back").addEventListener("click", () => go(state.step - 1));
of("next").addEventListener("click", () => go(state.step + 1));
of("change").addEventListener("click", () => go(steps - 1));

function answers() {
  return {
    format_version: STUDY.format_version,
    study: STUDY.study,
    subject: state.subject,
    answers: STUDY.questions.flatMap((_, i) => STUDY.criteria.map(({ name }, j) => (
      { question: i + 1, criterion: name, ranking: state.ranked[i][j] }
    ))),
    order: state.order.map((number) => number + 1), // as this person saw them
    shown: state.shown,
  };
}

of("save").addEventListener("click", () => {
  const file = new Blob([`${JSON.stringify(answers(), null, 2)}\n`], { type: "application/json" });
  const link = element("a", { href: URL.createObjectURL(file), download: `answers-${state.subject}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  of("saved").textContent = `Saved as ${link.download}, among your downloads.`;
  of("another-hint").hidden = false;
});

of("another").addEventListener("click", () => {
  of("another-hint").hidden = true;
  state = begun();
  go(0);
});

if (done() < steps && state.step === steps) state.step = 0;
show(false);
