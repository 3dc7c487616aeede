// The page: its form, list, dialogs and review.

const SEARCH_DELAY = 120; // milliseconds after the last key before a search begins

function fillForm(report) {
  fillOptions(byId("label"), [["", "all"], ...report.labels.map((label) => [label, label])]);
  const statuses = report.statuses.filter((status) => report.totals.byStatus[status]);
  fillOptions(byId("status"), [
    ["", "all"],
    ...statuses.map((status) => [status, report.statusTexts[status]]),
    ...(report.totals.missing ? [["missing", "missing"]] : []),
  ]);
  fillOptions(byId("review"), [
    ["", "all"],
    ["open", "not reviewed"],
    ["done", "reviewed"],
    ["corrected", "corrected"],
  ]);
  byId("folders").append(
    ...[...report.rows.folders]
      .sort()
      .slice(0, 1000)
      .map((value) => element("option", { value })),
  );
  byId("change-field").hidden = !report.changes;
  const changes =
    report.changes?.counts.filter(([change, count]) => count && change !== "gone") ?? [];
  fillOptions(byId("change"), [
    ["", "all"],
    ["any", "any change"],
    ...changes.map(([change]) => [change, change]),
  ]);
  fillOptions(
    byId("sort"),
    Object.entries(SORTS).filter(([sort]) => sort !== "changed" || report.changes),
  );
}

function readForm() {
  const share = (id, otherwise) =>
    byId(id).value === "" ? otherwise : Number(byId(id).value) / 100;
  const fields = ["search", "label", "status", "folder", "review", "change", "sort"];
  return {
    ...Object.fromEntries(fields.map((id) => [id, byId(id).value])),
    from: share("from", 0),
    to: share("to", 1),
  };
}

class Page {
  constructor(report) {
    this.report = report;
    this.answers = new Answers(report);
    this.query = new Query(report, this.answers);
    this.isGallery = [...report.shown.values()].some((shown) => shown.file);
    const make = (row) =>
      makeItem(report, this.answers, row, this.isGallery, (one) => this.closeup.open(one));
    this.list = new ListWindow(byId("items"), make, () => this._measure());
    this.closeup = new Closeup(report, this.answers, this.list);
  }

  start() {
    fillForm(this.report);
    showSummary(this.report, (fields) => this.filter(fields));
    byId("page").hidden = false;
    byId("filters").open = matchMedia("(min-width: 60rem)").matches;
    let typing;
    byId("query").addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.refresh(), SEARCH_DELAY);
    });
    byId("query").addEventListener("submit", (event) => event.preventDefault());
    byId("query").addEventListener("reset", () => setTimeout(() => this.refresh()));
    for (const id of ["as-gallery", "as-list"])
      byId(id).addEventListener("click", () => this.view(id === "as-gallery"));
    byId("undo").addEventListener("click", () => undo(this.answers, this.list));
    byId("download").addEventListener("click", () => downloadReview(this.report, this.answers));
    byId("help").addEventListener("click", () => byId("keys").showModal());
    listenToKeys(
      actionsOf(this.report, this.answers, this.list, this.closeup),
      byId("items"),
      this.closeup,
    );
    this.answers.onChange((row) => this._answered(row));
    addEventListener("beforeunload", (event) => {
      if (!this.answers.isStored && !this.answers.isDownloaded) event.preventDefault();
    });
    this.view(this.isGallery);
    this._showDone();
  }

  // Sets some fields of the form, clears the others, and scrolls to the result.
  filter(fields) {
    byId("query").reset();
    for (const [id, value] of Object.entries(fields)) byId(id).value = value;
    const lacksPictures = !this.query.rows(readForm()).some((row) => this.report.shown.has(row));
    this.view(this.isGallery && !lacksPictures);
    byId("photos").scrollIntoView();
    byId("photos").focus({ preventScroll: true });
  }

  view(isGallery) {
    this.isGallery = isGallery;
    byId("as-gallery").setAttribute("aria-pressed", String(isGallery));
    byId("as-list").setAttribute("aria-pressed", String(!isGallery));
    byId("items").classList.toggle("gallery", isGallery);
    this.refresh();
  }

  refresh() {
    const found = this.query.rows(readForm());
    const shown = this.isGallery ? found.filter((row) => this.report.shown.has(row)) : found;
    const others = found.length - shown.length;
    byId("count").textContent = `${counted(found.length)} of ${counted(this.report.size)} match`;
    byId("hint").hidden = !others;
    byId("hint").textContent =
      `${counted(others)} of them have no picture in this page: switch to the list to see them.`;
    this.list.show(shown);
  }

  _measure() {
    const style = getComputedStyle(byId("items"));
    return {
      least: parseFloat(style.getPropertyValue("--least")),
      height: parseFloat(style.getPropertyValue("--height")),
    };
  }

  // Updates the page after a change of the answer to `row`, or of any answers (undefined).
  _answered(row) {
    if (row === undefined) this.refresh();
    const item = this.list.elementOf(row);
    if (item) {
      showChoice(item.querySelector(".choices"), this.answers.get(row));
      item.classList.toggle("is-answered", this.answers.get(row) !== undefined);
    }
    this._showDone();
  }

  _showDone() {
    const { given, corrected, past, isStored } = this.answers;
    const all = (this.reviewable ??= [...Array(this.report.size).keys()].filter((row) =>
      this.report.canReview(row),
    ).length);
    byId("done").textContent = `${counted(given.size)} of ${counted(all)}`;
    byId("corrected").textContent = counted(corrected);
    byId("undo").disabled = !past.length;
    byId("download").disabled = !given.size;
    byId("storage").hidden = isStored;
    byId("storage").textContent =
      "This browser does not store answers: download review.csv before you close the page.";
  }
}

if (typeof DecompressionStream === "undefined") {
  fail("This browser is too old for this page: it lacks DecompressionStream.");
} else {
  readReport()
    .then((report) => new Page(report).start())
    .catch((error) => fail(`This page is damaged (${error.message}); make a new one.`));
}

function fail(message) {
  byId("fault").textContent = message;
  byId("fault").hidden = false;
}
