// A dialog that shows one row enlarged, with all of its columns.

class Closeup {
  constructor(report, answers, list) {
    Object.assign(this, { report, answers, list });
    this.dialog = byId("closeup");
    // The browser may close the dialog too, for example by a phone's back button.
    this.dialog.addEventListener("close", () => this._leave());
    answers.onChange(() => {
      if (this.dialog.open) this._fill();
    });
  }

  get isOpen() {
    return this.dialog.open;
  }

  open(row) {
    const at = this.list.rows.indexOf(row);
    if (at < 0) return;
    this.list.mark(at);
    this.at = at;
    this._fill();
    if (!this.dialog.open) this.dialog.showModal();
  }

  // Moves the focus at once: `close` fires later, and a key pressed until then would be lost.
  close() {
    this.dialog.close();
    this._leave();
  }

  step(by) {
    this.list.go(this.at + by);
    this.at = this.list.current;
    this._fill();
    this.dialog.querySelector("h2").focus();
  }

  // Focuses the row shown last; the browser would focus the row that opened the dialog.
  _leave() {
    if (this.at === undefined || this.dialog.open) return;
    const at = this.at;
    this.at = undefined;
    this.list.go(at);
  }

  _fill() {
    const { report, answers, list } = this;
    const row = list.row;
    const focused = this.dialog.contains(document.activeElement)
      ? document.activeElement.textContent
      : null;
    const facts = [
      ["Path", report.path(row)],
      [
        "Depends on",
        {
          face: "the face",
          image: "the whole photo",
          both: "face and whole photo",
          review: "a person\u2019s review",
        }[report.source(row)],
      ],
      ["The model said", this._modelText(row)],
      ["Faces", this._facesText(row)],
      ["Taken", report.taken(row)],
      ["Camera", report.camera(row)],
      ["Error", report.errors.get(row)],
      ["Note", report.shown.get(row)?.note],
    ].filter(([, value]) => value);
    const button = (text, press) => element("button", { type: "button", onclick: press }, text);
    this.dialog.replaceChildren(
      element("div", { class: "large" }, pictureOf(report, row, true)),
      element(
        "div",
        { class: "words" },
        element("h2", { id: "closeup-name", tabindex: "-1" }, element("bdi", {}, report.name(row))),
        answerLine(report, row),
        report.canReview(row) ? choicesFor(row, report, answers) : "",
        this._faceList(row),
        element(
          "dl",
          { class: "facts" },
          ...facts.flatMap(([name, value]) => [
            element("dt", {}, name),
            element("dd", {}, element("bdi", {}, value)),
          ]),
        ),
        this._link(row),
        element(
          "p",
          { class: "muted" },
          `${counted(list.current + 1)} of ${counted(list.rows.length)}`,
        ),
        element(
          "div",
          { class: "line" },
          button("Previous", () => this.step(-1)),
          button("Next", () => this.step(1)),
          button("Close", () => this.close()),
        ),
      ),
    );
    const again = [...this.dialog.querySelectorAll("button")].find(
      (one) => one.textContent === focused,
    );
    again?.focus();
  }

  // What the model said about a row that a person answered.
  _modelText(row) {
    const { report } = this;
    if (!report.isReviewed(row) || report.said(row) === null) return "";
    const [said, confidence] = [report.said(row), report.saidConfidence(row)];
    const text = said ? answerText(report, said) : "no answer";
    return confidence < 0 ? text : `${text}, ${percent(confidence)}`;
  }

  // How many faces the photo has, and how many of them this page can show.
  _facesText(row) {
    const { report } = this;
    const all = report.rows.faces[row];
    if (all < 2) return "";
    if (!report.perFace)
      return counted(all) + (report.box(row).length ? "; the box is the main one" : "");
    const shown = report.rowsOfPhoto(row).length;
    return counted(all) + (shown < all ? `, ${counted(shown)} of them in this page` : "");
  }

  // Lists the faces of the photo with their answers; empty if this page has one row of it.
  _faceList(row) {
    const { report } = this;
    const rows = report.rowsOfPhoto(row);
    if (rows.length < 2) return "";
    const lines = rows.map((one) =>
      element(
        "li",
        one === row ? { "aria-current": "true" } : {},
        element("span", {}, `Face ${report.rows.face[one]}`),
        answerLine(report, one),
      ),
    );
    return element("ul", { class: "faces", "aria-label": "Faces of the photo" }, ...lines);
  }

  _link(row) {
    const href = this.report.link(row);
    if (!href) return "";
    const attributes = { href, target: "_blank", rel: "noopener noreferrer" };
    return element("p", {}, element("a", attributes, "Open the original"));
  }
}
