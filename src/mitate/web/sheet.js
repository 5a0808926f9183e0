// The contact sheet: only the rows in sight exist, so fifty thousand pictures scroll as fifty do.

const GAP = 12, CAPTION = 30, EDGE = 20, SPARE = 2; // pixels, pixels, pixels, rows
const TALLEST = 15e6; // pixels; browsers cut a field off at 16.7 million or more
const SETTLE = 90; // milliseconds without scrolling before pictures are asked for while the sheet flies

export class Sheet {
  // dress(tile, number): what a tile shows beside its picture; pick(position, event), enter(position): clicks
  constructor(box, field, { dress, pick, enter }) {
    Object.assign(this, { box, field, dress });
    this.list = [];
    this.tiles = new Map(); // position -> tile
    this.spare = [];
    this.size = 148;
    this.last = 0;
    const place = event => event.target.closest(".tile");
    field.addEventListener("click", event => { const tile = place(event); if (tile) pick(+tile.dataset.position, event); });
    field.addEventListener("dblclick", event => { const tile = place(event); if (tile) enter(+tile.dataset.position); });
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.lay()).observe(box);
  }

  show(list) {
    this.list = list;
    this.clear();
    this.lay();
  }

  lay() { // how many a row, how wide; the picture at the top stays in sight
    const width = this.box.clientWidth - 2 * EDGE;
    if (width <= 0) return;
    const top = this.columns ? Math.floor(Math.max(0, this.box.scrollTop - EDGE) / this.high) * this.columns : 0;
    this.columns = Math.max(2, Math.floor((width + GAP) / (this.size + GAP)));
    const measure = () => {
      this.wide = (width - GAP * (this.columns - 1)) / this.columns;
      this.high = this.wide + CAPTION + GAP;
    };
    measure();
    for (; Math.ceil(this.list.length / this.columns) * this.high > TALLEST && this.wide > 2 * GAP; measure()) this.columns++;
    this.field.style.height = `${Math.ceil(this.list.length / this.columns) * this.high + 2 * EDGE}px`;
    this.box.scrollTop = Math.floor(top / this.columns) * this.high + (top ? EDGE : 0);
    this.clear();
    this.draw();
  }

  clear() {
    for (const position of [...this.tiles.keys()]) this.drop(position);
  }

  drop(position) {
    const tile = this.tiles.get(position);
    this.tiles.delete(position);
    tile.remove();
    tile.picture.removeAttribute("src");
    this.spare.push(tile);
  }

  get rows() { return Math.max(1, Math.floor(this.box.clientHeight / (this.high || 1))); }

  draw() {
    if (!this.columns) return;
    const now = performance.now(), fast = Math.abs(this.box.scrollTop - this.from) > 2 * this.box.clientHeight && now - this.last < 300;
    this.from = this.box.scrollTop;
    this.last = now;
    const first = Math.max(0, Math.floor((this.box.scrollTop - EDGE) / this.high) - SPARE) * this.columns;
    const end = Math.min(this.list.length, (Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.high) + SPARE) * this.columns);
    for (const position of [...this.tiles.keys()]) if (position < first || position >= end) this.drop(position);
    for (let position = first; position < end; position++) if (!this.tiles.has(position)) this.place(position);
    clearTimeout(this.timer);
    if (fast) this.timer = setTimeout(() => this.fill(), SETTLE);
    else this.fill();
  }

  place(position) {
    const tile = this.spare.pop() || fresh();
    tile.dataset.position = position;
    tile.id = `tile-${position}`;
    tile.classList.remove("small", "broken");
    tile.style.width = `${this.wide}px`;
    tile.style.transform = `translate(${EDGE + (position % this.columns) * (this.wide + GAP)}px, ${EDGE + Math.floor(position / this.columns) * this.high}px)`;
    this.tiles.set(position, tile);
    this.dress(tile, this.list[position], position);
    this.field.append(tile);
  }

  fill() {
    for (const [position, tile] of this.tiles) {
      const src = `thumbnail/${this.list[position]}`;
      if (tile.picture.getAttribute("src") !== src) tile.picture.setAttribute("src", src);
    }
  }

  redress() {
    for (const [position, tile] of this.tiles) this.dress(tile, this.list[position], position);
  }

  reveal(position) { // scroll as little as brings it in sight
    if (!this.columns) return;
    const top = EDGE + Math.floor(position / this.columns) * this.high, bottom = top + this.high;
    if (top - EDGE < this.box.scrollTop) this.box.scrollTop = top - EDGE;
    else if (bottom > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = bottom - this.box.clientHeight;
  }
}

function fresh() {
  const tile = document.createElement("div"), frame = document.createElement("div");
  tile.className = "tile";
  tile.setAttribute("role", "option");
  frame.className = "frame";
  tile.picture = document.createElement("img");
  tile.picture.alt = "";
  tile.picture.decoding = "async";
  tile.picture.draggable = false;
  tile.picture.addEventListener("load", () => tile.classList.toggle("small", Math.max(tile.picture.naturalWidth, tile.picture.naturalHeight) <= 96));
  tile.picture.addEventListener("error", () => { if (tile.picture.getAttribute("src")) tile.classList.add("broken"); });
  tile.badge = document.createElement("i");
  tile.badge.className = "badge";
  tile.words = document.createElement("p");
  frame.append(tile.picture, tile.badge);
  tile.append(frame, tile.words);
  return tile;
}
