// Ids of a sentence, the same ones as simgan_tf/text makes, from the contract inside a .tflite.
// Knows no model and no page; tests/test_web.py runs it in node over tests/words.json.

const MOST = 65536; // of a number of the contract

// {known, split, ids, unknown, refusal} for a contract's `tokens` and the text of its vocabulary file (null if none).
//   known: the words that have ids.   split(text): its words.   ids(text): Int32Array of the contract's length.
//   unknown(text): what has no id of its own, each once, in order.
//   refusal(text): why a text says nothing to the model, or null.
// Throws an Error for a tokenisation that this code does not know.
export function makeTokeniser(contract, vocabulary) {
  for (const name of ["length", "padding", "unknown", "end"]) {
    const number = contract[name] ?? 1;
    if (!Number.isInteger(number) || number < 0 || number > MOST || (name === "length" && number < 1)) {
      throw new Error(`the model's contract has tokens.${name} = ${String(number).slice(0, 40)}; export it again`);
    }
  }
  const kind = contract.tokenisation ?? "words";
  if (kind === "characters") return characters(contract);
  if (kind !== "words" && kind !== "spaces") {
    throw new Error(`tokenisation "${kind}" is none of words, spaces, characters; export again with this code`);
  }
  const lines = vocabulary.split("\n").slice(0, -1); // the number of a line, from 0, is its word's id
  const numbers = new Map(lines.map((word, id) => [word, id]));
  // Entries that no sentence can hold (with brackets or spaces) stand first: they are no words to show to people.
  const known = kind === "words" ? lines.filter((word) => splitWords(word)[0] === word) : lines.slice(3);
  const split = kind === "words" ? splitWords : contract.lower_case ? (text) => splitSpaces(lower(text)) : splitSpaces;

  return {
    known,
    split,
    ids(text) {
      const room = kind === "spaces" ? contract.length - 1 : contract.length;
      const row = split(text).slice(0, room).map((word) => numbers.get(word) ?? contract.unknown);
      if (kind === "spaces") row.push(contract.end);
      return padded(row, contract);
    },
    unknown: (text) => unique(split(text).filter((word) => !numbers.has(word))),
    refusal(text) {
      const words = split(text);
      if (!words.length) return `There is no word in the sentence. Try: ${known.slice(0, 8).join(", ")}.`;
      if (words.some((word) => numbers.has(word))) return null;
      return `The model knows no word of "${shortened(text)}". It knows ${known.length} words, such as `
        + `${known.slice(0, 8).join(", ")}.`;
    },
  };
}

// The words of a text by the rule of simgan_tf/text/words.py: in small letters and NFC, a letter or number with all
// letters, numbers and marks after it; of scripts without blanks between words (LONE there) each letter with its marks.
const LONE = "\\u0e01-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff\\u3005-\\u3007\\u3021-\\u3029\\u3041-\\u309f\\u3400-\\u4dbf"
  + "\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{3ffff}";
const VARIATIONS = /[\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/gu;
const MARKS = "\\p{Mn}\\p{Mc}";
const WORD = new RegExp(`(?=[\\p{L}\\p{N}])(?:[${LONE}][${MARKS}]*|(?:(?![${LONE}])[\\p{L}\\p{N}${MARKS}])+)`, "gu");

export function splitWords(text) {
  if (/^[\0-\x7f]*$/.test(text)) return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return text.toLowerCase().normalize("NFC").replace(VARIATIONS, " ").match(WORD) ?? [];
}

// What stands between the six ASCII spaces; JavaScript's own \s has more.
function splitSpaces(text) {
  return text.match(/[^ \t\n\v\f\r]+/g) ?? [];
}

function lower(text) {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

// One id a byte of UTF-8. Half a surrogate pair becomes three bytes, all unknown, as Python's three are.
function characters(contract) {
  const table = new Int32Array(256).fill(contract.unknown);
  for (let i = 0; i < contract.alphabet.length; i++) table[contract.alphabet.charCodeAt(i)] = i + 1;
  for (let upper = 65; upper <= 90; upper++) table[upper] = table[upper + 32];
  const known = (letter) => letter.codePointAt(0) < 128 && table[letter.codePointAt(0)] !== contract.unknown;
  return {
    known: [],
    split: splitSpaces,
    ids: (text) => padded([...new TextEncoder().encode(text).slice(0, contract.length)].map((b) => table[b]), contract),
    unknown: (text) => unique([...text].filter((letter) => !known(letter))),
    refusal: (text) => [...text].some((letter) => letter !== " " && known(letter))
      ? null : `The model knows no character of "${shortened(text)}". Write a sentence of English words.`,
  };
}

function padded(row, contract) {
  const ids = new Int32Array(contract.length).fill(contract.padding);
  ids.set(row);
  return ids;
}

function unique(words) {
  return [...new Set(words)];
}

function shortened(text) {
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
