// Filters and sorts the rows.

const SORTS = {
  doubtful: "least certain",
  certain: "most certain",
  report: "report order",
  name: "path",
  changed: "changed first",
  taken: "date taken",
  review: "review order",
};

const DAY = 86_400_000; // milliseconds

class Query {
  constructor(report, answers) {
    this.report = report;
    this.answers = answers;
    const rows = [...Array(report.size).keys()];
    this.texts = rows.map((row) =>
      `${report.path(row)}\n${report.errors.get(row) ?? ""}`.toLowerCase(),
    );
    // Rows without a confidence (failed, no face) come last in both orders.
    const doubt = (row) => (report.confidence(row) < 0 ? 2 : report.confidence(row));
    const sure = (row) => report.confidence(row);
    const time = (row) => (Number.isNaN(report.time(row)) ? Infinity : report.time(row));
    const reviewRank = (row) =>
      report.sampled.get(row) ?? report.size + (report.chosenRows.get(row) ?? report.size);
    const changedRank = (row) => (report.changed.has(row) ? 0 : 1);
    this.compare = {
      doubtful: (a, b) => doubt(a) - doubt(b) || a - b,
      certain: (a, b) => sure(b) - sure(a) || a - b,
      report: (a, b) => a - b,
      name: (a, b) =>
        this.texts[a] < this.texts[b] ? -1 : this.texts[a] > this.texts[b] ? 1 : a - b,
      // Rows without a date come last: both are infinite, and their difference is not a number.
      taken: (a, b) => (time(a) < time(b) ? -1 : time(a) > time(b) ? 1 : a - b),
      review: (a, b) => reviewRank(a) - reviewRank(b) || doubt(a) - doubt(b) || a - b,
      changed: (a, b) => changedRank(a) - changedRank(b) || doubt(a) - doubt(b) || a - b,
    };
  }

  // Returns the rows that match the fields of the form, in the order of its field `sort`, and the
  // number of photos that are hidden only because they have no date.
  rows(fields) {
    const { report } = this;
    const tests = this._tests(fields);
    const inTime = this._timeTest(fields);
    const found = [];
    const undated = new Set();
    for (let row = 0; row < report.size; row++) {
      if (!tests.every((test) => test(row))) continue;
      if (!inTime || inTime(report.time(row))) found.push(row);
      else if (Number.isNaN(report.time(row))) undated.add(report.photos[row]);
    }
    if (fields.sort !== "report") found.sort(this.compare[fields.sort]);
    return { found, undated: undated.size };
  }

  // Both days are included; in a date that is not complete yet the field is empty.
  _timeTest({ takenFrom, takenTo }) {
    if (!takenFrom && !takenTo) return null;
    const first = takenFrom ? Date.parse(takenFrom) : -Infinity;
    const end = takenTo ? Date.parse(takenTo) + DAY : Infinity;
    return (time) => time >= first && time < end;
  }

  _tests({ search, label, status, from, to, folder, review, change }) {
    const { report, answers, texts } = this;
    const tests = [];
    const words = search.toLowerCase().trim();
    if (words) tests.push((row) => texts[row].includes(words));
    if (label) tests.push((row) => report.label(row) === label);
    if (status === "missing") tests.push((row) => report.missing.has(row));
    else if (status) tests.push((row) => report.status(row) === status);
    if (from > 0 || to < 1) {
      tests.push((row) => report.confidence(row) >= from && report.confidence(row) <= to);
    }
    if (folder) {
      const inside = report.rows.folders.map((name) => name.startsWith(folder));
      tests.push((row) => inside[report.rows.folder[row]]);
    }
    const isAsked = (rows, row) => rows.has(row) && !report.recordedAnswers.has(row);
    if (review === "open") tests.push((row) => report.canReview(row) && !answers.has(row));
    if (review === "done") tests.push((row) => answers.has(row));
    if (review === "sample") tests.push((row) => isAsked(report.sampled, row));
    if (review === "chosen") tests.push((row) => isAsked(report.chosenRows, row));
    if (review === "corrected") tests.push((row) => answers.isCorrected(row));
    if (change === "any") tests.push((row) => report.changed.has(row));
    else if (change) tests.push((row) => report.changed.get(row)?.change === change);
    return tests;
  }
}
