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
    ...reviewSetOptions(report),
  ]);
  byId("folders").append(
    ...[...report.rows.folders]
      .sort()
      .slice(0, 1000)
      .map((value) => element("option", { value })),
  );
  const hasTimes = !report.times.every(Number.isNaN);
  byId("taken-field").hidden = !hasTimes;
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
    Object.entries(SORTS).filter(
      ([sort]) =>
        (sort !== "changed" || report.changes) &&
        (sort !== "taken" || hasTimes) &&
        (sort !== "review" || report.sampled.size || report.chosenRows.size),
    ),
  );
}

function readForm() {
  const share = (id, otherwise) =>
    byId(id).value === "" ? otherwise : Number(byId(id).value) / 100;
  const fields = ["search", "label", "status", "folder", "review", "change", "sort"];
  return {
    ...Object.fromEntries(fields.map((id) => [id, byId(id).value])),
    takenFrom: byId("taken-from").value,
    takenTo: byId("taken-to").value,
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
    listenToFiles(this.report, this.answers);
    listenToKeys(
      shortcutsOf(this.report, this.answers, this.list, this.closeup),
      byId("items"),
      this.closeup,
    );
    this.answers.onChange((areMany) => this._answered(areMany));
    addEventListener("beforeunload", (event) => {
      if (!this.answers.isStored && !this.answers.isDownloaded) event.preventDefault();
    });
    listenToReviewSets((fields) => this.filter(fields));
    this.view(this.isGallery);
    this._showDone();
  }

  // Sets some fields of the form, clears the others, and scrolls to the result.
  filter(fields) {
    byId("query").reset();
    for (const [id, value] of Object.entries(fields)) byId(id).value = value;
    const { found } = this.query.rows(readForm());
    const lacksPictures = !found.some((row) => this.report.shown.has(row));
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
    const { found, undated } = this.query.rows(readForm());
    const shown = this.isGallery ? found.filter((row) => this.report.shown.has(row)) : found;
    const others = found.length - shown.length;
    byId("count").textContent = `${counted(found.length)} of ${counted(this.report.size)} match`;
    const hints = [
      undated && `${counted(undated)} ${undated > 1 ? "photos have" : "photo has"} no date.`,
      others &&
        `${counted(others)} of them ${others > 1 ? "have" : "has"} no picture in this page: ` +
          `switch to the list to see ${others > 1 ? "them" : "it"}.`,
    ].filter(Boolean);
    byId("hint").hidden = !hints.length;
    byId("hint").textContent = hints.join(" ");
    this.list.show(shown);
  }

  _measure() {
    const style = getComputedStyle(byId("items"));
    return {
      least: parseFloat(style.getPropertyValue("--least")),
      height: parseFloat(style.getPropertyValue("--height")),
    };
  }

  // Updates the rows on the screen, as copies of a photo share their answers. After a single answer
  // the row stays in sight, even if it no longer matches the filter.
  _answered(areMany) {
    const { answers, list } = this;
    if (areMany) this.refresh();
    for (const item of list.made.values()) {
      const row = Number(item.dataset.row);
      const choices = item.querySelector(".choices");
      if (choices) showChoice(choices, answers.get(row), answers.canClear(row));
      item.classList.toggle("is-answered", answers.has(row));
    }
    this._showDone();
  }

  _showDone() {
    const { past, isStored, dropped } = this.answers;
    const forgot = this.answers.forgotten.dropped;
    const all = (this.reviewable ??= [...Array(this.report.size).keys()].filter((row) =>
      this.report.canReview(row),
    ).length);
    const done = this.answers.rows();
    const corrected = done.filter((row) => this.answers.isCorrected(row)).length;
    byId("done").textContent = `${counted(done.length)} of ${counted(all)}`;
    byId("corrected").textContent = counted(corrected);
    showReviewSets(this.report, this.answers);
    byId("undo").disabled = !past.length;
    byId("download").disabled = !this.answers.newRows().length;
    const notes = [
      !isStored &&
        "This browser does not store answers: download review.csv before you close the page.",
      dropped &&
        `The browser keeps ${counted(MAX_OTHERS)} answers about photos that are not in this ` +
          `report; ${counted(dropped)} older ones are dropped.`,
      forgot &&
        `The browser dropped ${counted(forgot)} ${forgot > 1 ? "answers" : "answer"} ` +
          "that --forget-reviews has set aside.",
    ].filter(Boolean);
    byId("storage").hidden = !notes.length;
    byId("storage").textContent = notes.join(" ");
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
