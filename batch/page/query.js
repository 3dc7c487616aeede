// Filters and sorts the rows.

const SORTS = {
  doubtful: "least certain",
  certain: "most certain",
  report: "report order",
  name: "path",
  changed: "changed first",
};

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
    const changedRank = (row) => (report.changed.has(row) ? 0 : 1);
    this.compare = {
      doubtful: (a, b) => doubt(a) - doubt(b) || a - b,
      certain: (a, b) => sure(b) - sure(a) || a - b,
      report: (a, b) => a - b,
      name: (a, b) =>
        this.texts[a] < this.texts[b] ? -1 : this.texts[a] > this.texts[b] ? 1 : a - b,
      changed: (a, b) => changedRank(a) - changedRank(b) || doubt(a) - doubt(b) || a - b,
    };
  }

  // Returns the rows that match the fields of the form, in the order of its field `sort`.
  rows(fields) {
    const tests = this._tests(fields);
    const found = [];
    for (let row = 0; row < this.report.size; row++) {
      if (tests.every((test) => test(row))) found.push(row);
    }
    return fields.sort === "report" ? found : found.sort(this.compare[fields.sort]);
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
    if (review === "open") tests.push((row) => report.canReview(row) && !answers.given.has(row));
    if (review === "done") tests.push((row) => answers.given.has(row));
    if (review === "corrected") {
      tests.push((row) => answers.given.has(row) && answers.get(row) !== report.answer(row));
    }
    if (change === "any") tests.push((row) => report.changed.has(row));
    else if (change) tests.push((row) => report.changed.get(row)?.change === change);
    return tests;
  }
}
