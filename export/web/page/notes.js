// What a person should know about a sentence before its edit: the same lines as simgan_tf/text/notes.py.
// Knows no model and no page; tests/test_notes.py runs it in node beside Python.

import { splitWords } from "./words.js";

const NEAR = 4, COMMON = 1000, SHOWN = 10; // see notes.py

// Lines about `text`, none where all of it is understood.
//   contract: of a .tflite; one without "notes" tells of no negations and no colours.
//   tokeniser: of words.js.
export function notesOf(text, { tokens, notes = { negations: [], colours: {}, rare: 0 } }, tokeniser) {
  const kind = tokens.tokenisation ?? "words";
  let { length } = tokens, read, rest, what = "words";
  if (kind === "characters") {
    const bytes = new TextEncoder().encode(text), decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    // A character that the cut goes through is neither read nor left out.
    [read, rest] = [bytes.slice(0, length), bytes.slice(length)].map((part) =>
      decoder.decode(part).replaceAll("\ufffd", ""));
    [rest, what] = [tokeniser.split(rest), "characters"];
  } else {
    const split = tokeniser.split(text);
    if (kind === "spaces") length -= 1; // the last id is the end of the sentence
    [read, rest] = [split.slice(0, length).join(" "), split.slice(length)];
  }
  const plain = splitWords(read), { known } = tokeniser;
  const negations = [...plain.keys()].filter((i) => isNegation(plain, i, notes));
  const told = new Set(negations.flatMap((i) => plain[i + 1] === "t" ? [plain[i], "t"] : [plain[i]]));
  const unknown = tokeniser.unknown(read).filter((word) => !told.has(word));
  const lines = [];
  if (rest.length) {
    const more = rest.length > SHOWN ? ` and ${rest.length - SHOWN} more` : "";
    lines.push(`only the first ${length} ${what} are read; left out: ${printable(rest.slice(0, SHOWN).join(" "))}${more}`);
  }
  if (unknown.length) {
    lines.push(`unknown to the model: ${unknown.map((word) => withMeant(word, known, notes)).join(", ")}`);
  }
  lines.push(...negations.map((i) => negation(plain, i, notes)));
  for (const colour of plain) {
    const share = Object.hasOwn(notes.colours, colour) ? notes.colours[colour] : null;
    if (share !== null && share < notes.rare && !unknown.includes(colour)) lines.push(rare(colour, share));
  }
  return [...new Set(lines)];
}

// Also of "isn't", which is the two words isn and t.
function isNegation(words, i, notes) {
  return notes.negations.includes(words[i]) || (words[i].endsWith("n") && words[i + 1] === "t");
}

function negation(words, i, notes) {
  const short = words[i + 1] === "t";
  const after = words.slice(i + 1, i + 1 + NEAR + (short ? 1 : 0));
  const taken = after.find((word) => Object.hasOwn(notes.colours, word)) ?? "what follows";
  return `"${words[i]}${short ? "'t" : ""}" is not understood: ${taken} is taken as asked for`;
}

function rare(colour, share) {
  const howMany = share ? `only one training caption in ${Math.floor(1 / share + 0.5)} says` : "no training caption says";
  return `${howMany} ${colour}: the edit may have another colour`;
}

function withMeant(word, known, notes) {
  const found = meant(word, known, notes);
  return found ? `${printable(word)} (did you mean ${found}?)` : printable(word);
}

// The nearest of the known colours and the commonest words, of equals the first; null where none is near.
function meant(word, known, { colours }) {
  if (Object.hasOwn(colours, word)) return null;
  const size = [...word].length;
  let farthest = size < 4 ? 0 : size < 8 ? 1 : 2, best = null;
  const all = new Set(known);
  for (const candidate of [...Object.keys(colours).filter((colour) => all.has(colour)), ...known.slice(0, COMMON)]) {
    if (Math.abs([...candidate].length - size) > farthest) continue;
    const far = distance([...word], [...candidate]);
    if (far <= farthest) [best, farthest] = [candidate, far - 1];
  }
  return best;
}

// Letters to put in, leave out, change or swap with their neighbour, to make `second` of `first`; see notes.py.
function distance(first, second) {
  let before = [], above = [...Array(second.length + 1).keys()];
  for (let i = 1; i <= first.length; i++) {
    const row = [i];
    for (let j = 1; j <= second.length; j++) {
      row.push(Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (first[i - 1] === second[j - 1] ? 0 : 1)));
      if (i > 1 && j > 1 && first[i - 1] === second[j - 2] && first[i - 2] === second[j - 1]) {
        row[j] = Math.min(row[j], before[j - 2] + 1);
      }
    }
    [before, above] = [above, row];
  }
  return above[second.length];
}

// What has no picture of its own is shown by its number.
function printable(text) {
  const unseen = /^(?! )[\p{C}\p{Z}]$/u;
  return [...text].map((letter) => unseen.test(letter)
    ? `U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}` : letter).join("");
}
