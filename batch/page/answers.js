// The reviewer's answers, stored in the browser under the path of the report, so that the pages of
// later runs have them too.

// Answers by the names that earlier releases stored.
const FORMER_ANSWERS = new Map([["not_a_person", "no_person"]]);
// Most stored answers about photos that are not in this report; the oldest are dropped.
const MAX_OTHERS = 10_000;

class Answers {
  constructor(report) {
    this.report = report;
    this.matcher = new Matcher(report);
    this.key = `batch-label review ${report.series}`;
    this.own = new Map(); // by key of the matcher
    this.merged = new Set(); // keys of own answers that were in a reviews file
    this.forgotten = new Forgotten(report, this.matcher);
    this.known = new Map(); // by key, the newest forgotten file that a page of the answer knew
    this.recorded = new Map();
    for (const [row, { label }] of report.recordedAnswers)
      if (report.canReview(row)) this.recorded.set(this.matcher.keyOf(row), label);
    this.others = [];
    this.dropped = 0;
    this.past = [];
    this.listeners = [];
    this.isStored = true;
    this.isDownloaded = true;
    this._load();
    if (this.own.size || this.forgotten.dropped) this._save();
    // Another window of this page, or of an earlier one, has changed the answers.
    addEventListener("storage", (event) => {
      if (event.key !== this.key) return;
      this._load();
      this._tell(true);
    });
  }

  // The answer given in the browser, else the one that is recorded in the reviews file.
  get(row) {
    const key = this.matcher.keyOf(row);
    return this.own.get(key) ?? this.recorded.get(key);
  }
  has(row) {
    return this.get(row) !== undefined;
  }
  // Whether there is an answer to take back.
  canClear(row) {
    const key = this.matcher.keyOf(row);
    return this.own.has(key) && this.own.get(key) !== this.recorded.get(key);
  }
  // The rows with an answer, in the order of the report.
  rows() {
    const keys = new Set([...this.own.keys(), ...this.recorded.keys()]);
    return [...keys].flatMap((key) => this.matcher.rowsOf(key)).sort((a, b) => a - b);
  }
  // The rows whose answers are not in the reviews file yet.
  newRows() {
    const keys = [...this.own.keys()].filter(
      (key) => this.own.get(key) !== this.recorded.get(key),
    );
    return keys.flatMap((key) => this.matcher.rowsOf(key)).sort((a, b) => a - b);
  }
  isCorrected(row) {
    const [given, said] = [this.get(row), this.report.said(row)];
    return given !== undefined && said !== null && given !== said;
  }

  // Sets the answer to a row, or clears it (undefined).
  set(row, label) {
    this._setAll([[row, label]], false);
  }
  // Sets several answers, which one undo takes back; returns how many were other ones before.
  setAll(pairs) {
    return this._setAll(pairs, true);
  }
  _setAll(pairs, areMany) {
    const step = [];
    let replaced = 0;
    for (const [row, label] of pairs) {
      if (!this.report.canReview(row)) continue;
      const key = this.matcher.keyOf(row);
      const before = this.own.get(key);
      if (label === (label === undefined ? before : this.get(row))) continue;
      if (label !== undefined && this.get(row) !== undefined) replaced++;
      step.push([row, key, before]);
      this._put(key, label);
    }
    if (!step.length) return replaced;
    this.past.push(step);
    this._changed(areMany);
    return replaced;
  }

  undo() {
    const step = this.past.pop();
    if (!step) return undefined;
    for (const [, key, before] of step.reverse()) this._put(key, before);
    this._changed(step.length > 1);
    return step.at(-1)[0];
  }

  // The listener gets whether other answers than that of one row may have changed.
  onChange(listener) {
    this.listeners.push(listener);
  }

  _put(key, label) {
    this.own.delete(key); // the last answer is stored last
    this.merged.delete(key);
    if (label !== undefined) this.own.set(key, label);
  }

  _changed(areMany) {
    this.isDownloaded = false;
    this._save();
    this._tell(areMany);
  }
  _tell(areMany) {
    for (const listener of this.listeners) listener(areMany);
  }

  _load() {
    let stored = "[]";
    try {
      stored = localStorage.getItem(this.key) ?? this._former();
      localStorage.setItem(this.key, stored);
    } catch {
      this.isStored = false;
    }
    this.own.clear();
    this.merged.clear();
    this.others = [];
    for (const kept of parseList(stored)) {
      const [digest, path, face, box, label, wasMerged, known] = Array.isArray(kept) ? kept : [];
      const isKept = typeof path === "string" && typeof label === "string" && Array.isArray(box);
      if (!isKept) continue; // it is damaged
      const isKnown = this.report.choices.includes(label);
      const sides = box.map((side) => side / 10);
      const row = isKnown ? this.matcher.find({ digest, path, face, box: sides }) : undefined;
      if (row === undefined) this.others.push(kept);
      else this._take(this.matcher.keyOf(row), label, wasMerged === true, Number(known) || 0);
    }
    this.dropped = Math.max(0, this.others.length - MAX_OTHERS);
    this.others.splice(0, this.dropped);
  }

  // Takes a stored answer. If it was in the reviews file, a different one there is newer.
  _take(key, label, wasMerged, known) {
    const recorded = this.recorded.get(key);
    if (wasMerged && recorded !== undefined && recorded !== label) return;
    if (recorded !== label && this.forgotten.drops(key, label, known)) return;
    this._put(key, label);
    this.known.set(key, Math.max(known, this.forgotten.newest));
    if (wasMerged || recorded === label) this.merged.add(key);
  }

  // Earlier releases stored pairs of row and answer under the digest of the report.
  _former() {
    const { report } = this;
    const stored = localStorage.getItem(`batch-label review ${report.reportDigest}`);
    const kept = parseList(stored ?? "[]").flatMap((pair) => {
      const [row, name] = Array.isArray(pair) ? pair : [];
      const isRow = Number.isInteger(row) && row >= 0 && row < report.size;
      const label = report.choices.includes(name) ? name : FORMER_ANSWERS.get(name);
      return isRow && report.choices.includes(label) ? [this._toStored(row, label)] : [];
    });
    return JSON.stringify(kept);
  }

  _toStored(row, label) {
    const { report } = this;
    const { face, box } = report.rows;
    return [report.digest(row), report.path(row), face[row], box[row], label];
  }

  _save() {
    const own = [...this.own].map(([key, label]) => [
      ...this._toStored(this.matcher.rowsOf(key)[0], label),
      this.merged.has(key),
      this.known.get(key) ?? this.forgotten.newest,
    ]);
    try {
      localStorage.setItem(this.key, JSON.stringify([...this.others, ...own]));
      this.isStored = true;
    } catch {
      this.isStored = false;
    }
  }
}

// Parses a stored list; a damaged one is empty.
function parseList(text) {
  try {
    const list = JSON.parse(text);
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}
