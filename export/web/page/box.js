// The box around the part of a photograph that is to be changed: drawn, moved and resized by mouse, touch and keys.
// Knows no model; its numbers are pixels of the photograph.

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 1 / 50; // of a side of the photograph, that an arrow key goes

export class Box {
  // frame: what lies exactly over the picture; element: the box in it, with a child of data-corner "x y" a corner.
  // changed: called when a person has let the box go.
  constructor(frame, element, changed) {
    Object.assign(this, { frame, element, changed, value: null, width: 1, height: 1, least: 1, drag: null });
    frame.addEventListener("pointerdown", (event) => this.take(event));
    frame.addEventListener("pointermove", (event) => this.drag?.(this.at(event)));
    frame.addEventListener("pointerup", () => this.letGo());
    frame.addEventListener("pointercancel", () => this.letGo());
    element.addEventListener("keydown", (event) => this.press(event));
  }

  // Of a new photograph; the box is gone then. least: the fewest pixels of a side of the box.
  setPicture(width, height, least) {
    Object.assign(this, { width, height, least });
    this.set(null);
  }

  // value: {x, y, width, height}, which is made whole, large enough and brought inside; null: the whole photograph.
  set(value) {
    this.value = value && this.inside(value);
    this.element.hidden = !value;
    this.frame.classList.toggle("boxed", Boolean(value));
    if (!value) return;
    const { x, y, width, height } = this.value;
    const percent = (share) => `${100 * share}%`;
    Object.assign(this.element.style, { left: percent(x / this.width), top: percent(y / this.height),
      width: percent(width / this.width), height: percent(height / this.height) });
    this.element.setAttribute("aria-label", `the part to change, ${this.words()}`);
  }

  // Half of each side, in the middle.
  setMiddle() {
    this.set({ x: this.width / 4, y: this.height / 4, width: this.width / 2, height: this.height / 2 });
  }

  words() {
    const { x, y, width, height } = this.value;
    return `${width}x${height} pixels, ${x} from the left, ${y} from the top`;
  }

  inside({ x, y, width, height }) {
    const side = (value, most) => Math.min(Math.max(Math.round(value), this.least), most);
    const start = (value, size, whole) => Math.min(Math.max(Math.round(value), 0), whole - size);
    const [w, h] = [side(width, this.width), side(height, this.height)];
    return { x: start(x, w, this.width), y: start(y, h, this.height), width: w, height: h };
  }

  // Where a pointer is, in pixels of the photograph; beside it, the nearest place on its edge.
  at(event) {
    const place = this.frame.getBoundingClientRect();
    const share = (distance, side) => Math.min(Math.max(distance / side, 0), 1);
    return [this.width * share(event.clientX - place.x, place.width),
      this.height * share(event.clientY - place.y, place.height)];
  }

  take(event) {
    if (!this.value || event.button !== 0) return;
    const point = this.at(event);
    const { x, y, width, height } = this.value;
    const corner = event.target.dataset.corner?.split(" ").map(Number);
    if (event.target === this.element) { // it moves along
      this.drag = ([px, py]) => this.set({ x: x + px - point[0], y: y + py - point[1], width, height });
    } else { // the corner across stays, or the point where a new box begins
      const [ax, ay] = corner ? [x + (1 - corner[0]) * width, y + (1 - corner[1]) * height] : point;
      this.drag = ([px, py]) => this.set({ x: Math.min(ax, px), y: Math.min(ay, py),
        width: Math.abs(px - ax), height: Math.abs(py - ay) });
    }
    this.frame.setPointerCapture(event.pointerId);
    event.preventDefault();
    this.element.focus({ preventScroll: true });
  }

  letGo() {
    if (!this.drag) return;
    this.drag = null;
    this.changed();
  }

  press(event) {
    const way = KEYS[event.key];
    if (!way) return;
    event.preventDefault();
    const [right, down] = [Math.ceil(this.width * STEP) * way[0], Math.ceil(this.height * STEP) * way[1]];
    const { x, y, width, height } = this.value;
    // What would leave the photograph by its size stops at the edge, rather than push the box back.
    this.set(event.shiftKey
      ? { x, y, width: Math.min(width + right, this.width - x), height: Math.min(height + down, this.height - y) }
      : { x: x + right, y: y + down, width, height });
    this.changed();
  }
}
