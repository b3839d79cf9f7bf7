// What the page downloads, for people: a row for each large file, with its bytes and a bar, and their sum.

const RUNTIME = /^litert\/litert_wasm_\w*internal\.wasm\.gz$/; // three files of the site, one of which is fetched
const SCRIPT = /^litert\/litert_wasm_\w*internal\.js$/; // of each of them

export class Downloads {
  // list: the element for the rows; sum: the one for the sum.
  constructor(list, sum) {
    Object.assign(this, { list, sum, rows: [] });
  }

  // Rows for what site.json announces.
  expect({ files, model, litert }) {
    const names = Object.keys(files);
    const largest = (kind) => Math.max(...names.filter((name) => kind.test(name)).map((name) => files[name]));
    const small = names.filter((name) => name !== model && !RUNTIME.test(name) && !SCRIPT.test(name));
    this.add((name) => name === model, model.split("/").pop(), files[model]);
    this.add((name) => RUNTIME.test(name), `LiteRT.js ${litert}, which runs it`, largest(RUNTIME));
    this.add(() => false, "this page, its samples and scripts",
      small.reduce((sum, name) => sum + files[name], largest(SCRIPT)));
    this.draw();
  }

  add(fits, shown, total) {
    const row = document.createElement("li");
    const [label, size, bar] = ["span", "span", "progress"].map((tag) => document.createElement(tag));
    label.textContent = shown;
    size.className = "hint";
    bar.setAttribute("aria-label", shown);
    row.append(label, size, bar);
    this.list.append(row);
    this.rows.push({ fits, bar, size, done: 0, total });
  }

  // Of the file `name`, `done` of `total` bytes are there. More than all come where a server unpacks on its own.
  show({ name, done, total }) {
    const row = this.rows.find((each) => each.fits(name));
    if (row) Object.assign(row, { total, done: Math.min(done, total) });
    this.draw();
  }

  finish() {
    for (const row of this.rows) row.done = row.total;
    this.draw();
  }

  draw() {
    for (const { bar, size, done, total } of this.rows) {
      bar.max = total;
      bar.value = done;
      size.textContent = bytes(total);
    }
    const [done, total] = ["done", "total"].map((key) => this.rows.reduce((sum, row) => sum + row[key], 0));
    this.sum.textContent = done < total ? `${bytes(done)} of ${bytes(total)}` : `${bytes(total)}, done`;
  }
}

function bytes(count) {
  return count < 1e5 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`;
}
