// The page's way to the worker engine.js: a question, and a promise of its answer.

const engine = new Worker(new URL("engine.js", import.meta.url));
const asked = new Map();
let asks = 0, tellProgress = () => {};

// What the worker's `verb` gives for `value`. Rejects with an Error in the worker's words.
export function ask(verb, value) {
  return new Promise((resolve, reject) => {
    asked.set(++asks, { resolve, reject });
    engine.postMessage({ id: asks, verb, value });
  });
}

// tell: called with {name, done, total} of a file that is being downloaded.
export function onProgress(tell) {
  tellProgress = tell;
}

engine.onmessage = ({ data }) => {
  if (data.progress) return tellProgress(data.progress);
  const { resolve, reject } = asked.get(data.id);
  asked.delete(data.id);
  return "error" in data ? reject(new Error(data.error)) : resolve(data.value);
};
engine.onerror = (event) => {
  for (const { reject } of asked.values()) reject(new Error(event.message || "engine.js could not be loaded"));
  asked.clear();
};
