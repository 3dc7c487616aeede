// The rows of the report as columns, and their pictures.

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

class Report {
  constructor(data, files) {
    Object.assign(this, data);
    this.size = data.rows.status.length;
    this.missing = new Set(data.rows.missing);
    this.errors = new Map(data.rows.error);
    this.changed = new Map(
      data.changed.map(([row, change, was, from]) => [row, { change, was, from }]),
    );
    this.shown = new Map(
      data.pictures.map(([row, left, top, width, height, note], at) => [
        row,
        { view: [left, top, width, height], note, file: files[at] },
      ]),
    );
    // In old reports a label may have the name of an abstain output.
    this.choices = [...new Set([...data.labels, ...data.abstain])];
  }

  folder(row) {
    return this.rows.folders[this.rows.folder[row]];
  }
  path(row) {
    return this.folder(row) + this.rows.name[row];
  }
  status(row) {
    return this.statuses[this.rows.status[row]];
  }
  label(row) {
    return this.labels[this.rows.label[row]] ?? "";
  }
  // The label or abstain output; empty without an answer.
  answer(row) {
    const status = this.status(row);
    return this.label(row) || (this.abstain.includes(status) ? status : "");
  }
  source(row) {
    return this.sources[this.rows.source[row]] ?? "";
  }
  // 0 to 1; negative without an answer.
  confidence(row) {
    return this.rows.confidence[row] / 10000;
  }
  // Left, top, width and height in pixels of the photo; empty without a box.
  box(row) {
    return this.rows.box[row].map((side) => side / 10);
  }
  // A photo that could not be read has no correct answer.
  canReview(row) {
    return this.status(row) !== "failed";
  }
  name(row) {
    const face = this.rows.face[row];
    return face ? `${this.rows.name[row]}, face ${face}` : this.rows.name[row];
  }
}

async function readReport() {
  const data = await unpack(byId("rows").textContent);
  const report = new Report(data, JSON.parse(byId("pictures").textContent));
  // Both are large and no longer needed.
  byId("rows").remove();
  byId("pictures").remove();
  return report;
}
