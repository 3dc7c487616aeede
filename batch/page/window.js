// A virtual list: only the rows on the screen are in the document.

class ListWindow {
  // `make` creates the element of a row; `measure` returns its least width and height, in pixels.
  constructor(host, make, measure) {
    this.host = host;
    this.make = make;
    this.measure = measure;
    this.rows = [];
    this.current = 0;
    this.made = new Map();
    const draw = () => {
      this.waiting ??= requestAnimationFrame(() => {
        this.waiting = null;
        this.draw();
      });
    };
    addEventListener("scroll", draw, { passive: true });
    addEventListener("resize", draw);
    host.addEventListener("focusin", (event) => {
      const item = event.target.closest("li");
      if (item) this.mark(Number(item.dataset.at));
    });
  }

  show(rows) {
    this.rows = rows;
    this.current = 0;
    this.made.clear();
    this.host.replaceChildren();
    this.draw();
  }

  get row() {
    return this.rows[this.current];
  }

  draw() {
    const { least, height } = this.measure();
    const width = this.host.clientWidth;
    this.columns = Math.max(1, Math.floor(width / least));
    this.height = height;
    this.host.style.height = `${Math.ceil(this.rows.length / this.columns) * height}px`;
    const above = -this.host.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / height) - 1) * this.columns;
    const last = Math.min(
      this.rows.length,
      (Math.ceil((above + innerHeight) / height) + 1) * this.columns,
    );
    this._keepOnly(first, last);
    this._place(first, last, width / this.columns);
  }

  // Makes the row at position `at` the current one, scrolls to it and focuses it.
  go(at) {
    if (!this.rows.length) return;
    this.mark(Math.min(this.rows.length - 1, Math.max(0, at)));
    const top = Math.floor(this.current / this.columns) * this.height;
    const shift =
      this.host.getBoundingClientRect().top + top - byId("bar").getBoundingClientRect().bottom;
    const room = innerHeight - Math.max(0, byId("bar").getBoundingClientRect().bottom);
    if (shift < 0) scrollBy(0, shift - 8);
    else if (shift + this.height > room)
      scrollBy(0, Math.min(shift, shift + this.height - room + 8));
    this.draw();
    this.made.get(this.current).focus({ preventScroll: true });
  }

  mark(at) {
    this.made.get(this.current)?.setAttribute("tabindex", "-1");
    this.current = at;
    this.made.get(at)?.setAttribute("tabindex", "0");
  }

  _keepOnly(first, last) {
    for (const [at, item] of this.made) {
      if (
        (at < first || at >= last) &&
        at !== this.current &&
        !item.contains(document.activeElement)
      ) {
        item.remove();
        this.made.delete(at);
      }
    }
  }

  _place(first, last, width) {
    // The current row stays in the document, so that Tab can reach it and its keys work.
    const wanted = new Set([...this.made.keys(), ...(this.rows.length ? [this.current] : [])]);
    for (let at = first; at < last; at++) wanted.add(at);
    let next = this.host.firstChild;
    for (const at of [...wanted].sort((a, b) => a - b)) {
      const item = this.made.get(at) ?? this._new(at);
      if (item === next) next = next.nextSibling;
      else this.host.insertBefore(item, next);
      const [line, column] = [Math.floor(at / this.columns), at % this.columns];
      item.style.transform = `translate(${column * width}px, ${line * this.height}px)`;
      item.style.width = `${width}px`;
      item.style.height = `${this.height}px`;
    }
  }

  _new(at) {
    const item = this.make(this.rows[at]);
    item.dataset.at = at;
    item.dataset.row = this.rows[at];
    item.setAttribute("tabindex", at === this.current ? "0" : "-1");
    item.setAttribute("aria-setsize", this.rows.length);
    item.setAttribute("aria-posinset", at + 1);
    this.made.set(at, item);
    return item;
  }
}
