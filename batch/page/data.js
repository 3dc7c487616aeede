// The report, as the page was given it: columns, and small pictures.

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

class Report {
  constructor(said, files) {
    Object.assign(this, said);
    this.size = said.rows.status.length;
    this.missing = new Set(said.rows.missing);
    this.errors = new Map(said.rows.error);
    this.changed = new Map(said.changed.map(([row, change, was]) => [row, { change, was }]));
    this.shown = new Map(
      said.pictures.map(([row, left, top, width, height, note], at) => [
        row,
        { view: [left, top, width, height], note, file: files[at] },
      ]),
    );
    // A label of an old report may be called as a reason to give none.
    this.choices = [...new Set([...said.labels, ...said.abstain])];
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
  // The label, or the status that takes its place; empty where there is no answer.
  answer(row) {
    const status = this.status(row);
    return this.label(row) || (this.abstain.includes(status) ? status : "");
  }
  source(row) {
    return this.sources[this.rows.source[row]] ?? "";
  }
  // 0 to 1, negative where there is none.
  confidence(row) {
    return this.rows.confidence[row] / 10000;
  }
  // Left, top, width and height in pixels of the photo, or nothing.
  box(row) {
    return this.rows.box[row].map((side) => side / 10);
  }
  // A photo that nobody could read has no right label.
  canReview(row) {
    return this.status(row) !== "failed";
  }
  name(row) {
    const face = this.rows.face[row];
    return face ? `${this.rows.name[row]}, face ${face}` : this.rows.name[row];
  }
}

async function readReport() {
  const said = await unpack(byId("rows").textContent);
  const report = new Report(said, JSON.parse(byId("pictures").textContent));
  // They are large, and nobody reads them a second time.
  byId("rows").remove();
  byId("pictures").remove();
  return report;
}
