// Which row an answer is about: the photo by its digest or else its path, the face by its box.

// Boxes in the same photo are of one face if their intersection over union is at least this.
const MIN_OVERLAP = 0.5;

function overlapOf([left, top, width, height], [left2, top2, width2, height2]) {
  const across = Math.min(left + width, left2 + width2) - Math.max(left, left2);
  const down = Math.min(top + height, top2 + height2) - Math.max(top, top2);
  const shared = Math.max(0, across) * Math.max(0, down);
  return shared / (width * height + width2 * height2 - shared);
}

class Matcher {
  constructor(report) {
    this.report = report;
  }

  // Rows with the same key are about the same face, or the same photo: copies share their answers.
  keyOf(row) {
    const { report } = this;
    return `${this._photoKey(report.digest(row)) || report.path(row)}\n${report.rows.face[row]}`;
  }

  // The rows of a key that can be reviewed.
  rowsOf(key) {
    this._index();
    return this.byKey.get(key) ?? [];
  }

  // Returns the row that a kept answer is about; undefined if it is not in this page.
  find({ digest, path, face, box }) {
    this._index();
    const { report } = this;
    let rows = this.byPhoto.get(this._photoKey(digest)) ?? [];
    if (!rows.length)
      rows = (this.byPhoto.get(path) ?? []).filter((row) => !(digest && report.digest(row)));
    // A copy that was moved has another path.
    const samePath = rows.filter((row) => report.path(row) === path);
    return this._findFace(samePath, face, box) ?? this._findFace(rows, face, box);
  }

  // No path of a report has a line feed.
  _photoKey(digest) {
    return digest && `\n${digest}`;
  }

  _findFace(rows, face, box) {
    const { report } = this;
    if (!face) return rows.find((row) => !report.rows.face[row]);
    const faces = rows.filter((row) => report.rows.face[row]);
    if (!box.length) return faces.find((row) => report.rows.face[row] === face);
    let [best, most] = [undefined, 0];
    for (const row of faces.filter((one) => report.box(one).length)) {
      const overlap = overlapOf(box, report.box(row));
      if (overlap >= MIN_OVERLAP && overlap > most) [best, most] = [row, overlap];
    }
    return best;
  }

  // Made when it is first needed: most pages are opened without answers.
  _index() {
    if (this.byKey) return;
    this.byKey = new Map();
    this.byPhoto = new Map();
    const add = (map, key, row) => {
      const rows = map.get(key);
      if (rows) rows.push(row);
      else map.set(key, [row]);
    };
    const { report } = this;
    for (let row = 0; row < report.size; row++) {
      if (!report.canReview(row)) continue;
      add(this.byKey, this.keyOf(row), row);
      add(this.byPhoto, report.path(row), row);
      if (report.digest(row)) add(this.byPhoto, this._photoKey(report.digest(row)), row);
    }
  }
}
