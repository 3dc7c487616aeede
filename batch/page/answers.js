// The reviewer's answers, stored in the browser under the digest of the report.

// Answers by the names that earlier releases stored.
const FORMER_ANSWERS = { not_a_person: "no_person" };

class Answers {
  constructor(report) {
    this.report = report;
    this.key = `batch-label review ${report.digest}`;
    this.given = new Map();
    this.past = [];
    this.listeners = [];
    this.isStored = true;
    this.isDownloaded = true;
    this._load();
    // Another window of the same page has changed the answers.
    addEventListener("storage", (event) => {
      if (event.key !== this.key) return;
      this._load();
      for (const listener of this.listeners) listener(undefined);
    });
  }

  get(row) {
    return this.given.get(row);
  }
  // The number of answers that differ from the report.
  get corrected() {
    return [...this.given].filter(([row, label]) => label !== this.report.answer(row)).length;
  }

  set(row, label) {
    if (!this.report.canReview(row)) return;
    this.past.push([row, this.given.get(row)]);
    this._put(row, label);
  }

  undo() {
    if (!this.past.length) return undefined;
    const [row, before] = this.past.pop();
    this._put(row, before);
    return row;
  }

  // The listener gets the changed row, or undefined if any may have changed.
  onChange(listener) {
    this.listeners.push(listener);
  }

  _put(row, label) {
    if (label === undefined) this.given.delete(row);
    else this.given.set(row, label);
    this.isDownloaded = false;
    this._save();
    for (const listener of this.listeners) listener(row);
  }

  _load() {
    let stored = "[]";
    try {
      stored = localStorage.getItem(this.key) ?? stored;
      localStorage.setItem(this.key, stored);
    } catch {
      this.isStored = false;
    }
    this.given.clear();
    try {
      for (const [row, name] of JSON.parse(stored)) {
        const isRow = Number.isInteger(row) && row >= 0 && row < this.report.size;
        const { choices } = this.report;
        const label = choices.includes(name) ? name : FORMER_ANSWERS[name];
        if (isRow && choices.includes(label)) this.given.set(row, label);
      }
    } catch {
      this.given.clear(); // the stored text is damaged
    }
  }

  _save() {
    try {
      localStorage.setItem(this.key, JSON.stringify([...this.given]));
      this.isStored = true;
    } catch {
      this.isStored = false;
    }
  }
}
