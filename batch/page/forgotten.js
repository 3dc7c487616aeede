// Answers in reviews files that --forget-reviews has set aside. A browser that gave them drops them.

class Forgotten {
  constructor(report, matcher) {
    this.files = report.forgotten.map(([time, pairs]) => ({
      time,
      labels: new Map(pairs.map(([row, label]) => [matcher.keyOf(row), label])),
    }));
    this.dropped = 0;
    // The time of the newest file; answers that are given in this page were not in it.
    this.newest = Math.max(0, ...this.files.map(({ time }) => time));
  }

  // Drops and counts an answer that is in a file newer than those that its page knew.
  drops(key, label, known) {
    const isIn = this.files.some(({ time, labels }) => time > known && labels.get(key) === label);
    if (isIn) this.dropped++;
    return isIn;
  }
}
