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
        { face: "the face", image: "the whole photo", both: "face and whole photo" }[
          report.source(row)
        ],
      ],
      ["Error", report.errors.get(row)],
      ["Note", report.shown.get(row)?.note],
    ].filter(([, value]) => value);
    const button = (text, press) => element("button", { type: "button", onclick: press }, text);
    this.dialog.replaceChildren(
      element("div", { class: "large" }, pictureOf(report, row)),
      element(
        "div",
        { class: "words" },
        element("h2", { id: "closeup-name", tabindex: "-1" }, element("bdi", {}, report.name(row))),
        answerLine(report, row),
        report.canReview(row) ? choicesFor(row, report, answers) : "",
        element(
          "dl",
          { class: "facts" },
          ...facts.flatMap(([name, value]) => [
            element("dt", {}, name),
            element("dd", {}, element("bdi", {}, value)),
          ]),
        ),
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
}
