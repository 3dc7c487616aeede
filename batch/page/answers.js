// What the reviewer said is right, kept in the browser under the report's digest.

// What answers were called in pages of earlier releases.
const FORMER_ANSWERS = { not_a_person: "no_person" };

class Answers {
  constructor(report) {
    this.report = report;
    this.key = `batch-label review ${report.digest}`;
    this.given = new Map();
    this.past = [];
    this.heard = [];
    this.isKept = true;
    this.isDownloaded = true;
    this._load();
    // Another window of the same page has put something down.
    addEventListener("storage", (event) => {
      if (event.key !== this.key) return;
      this._load();
      for (const hear of this.heard) hear(undefined);
    });
  }

  get(row) {
    return this.given.get(row);
  }
  // Answers that are not what the report says.
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

  onChange(hear) {
    this.heard.push(hear);
  }

  _put(row, label) {
    if (label === undefined) this.given.delete(row);
    else this.given.set(row, label);
    this.isDownloaded = false;
    this._save();
    for (const hear of this.heard) hear(row);
  }

  _load() {
    let kept = "[]";
    try {
      kept = localStorage.getItem(this.key) ?? kept;
      localStorage.setItem(this.key, kept);
    } catch {
      this.isKept = false;
    }
    this.given.clear();
    try {
      for (const [row, stored] of JSON.parse(kept)) {
        const isRow = Number.isInteger(row) && row >= 0 && row < this.report.size;
        const { choices } = this.report;
        const label = choices.includes(stored) ? stored : FORMER_ANSWERS[stored];
        if (isRow && choices.includes(label)) this.given.set(row, label);
      }
    } catch {
      this.given.clear(); // somebody else's, or damaged
    }
  }

  _save() {
    try {
      localStorage.setItem(this.key, JSON.stringify([...this.given]));
      this.isKept = true;
    } catch {
      this.isKept = false;
    }
  }
}
