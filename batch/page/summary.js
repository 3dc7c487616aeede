// The summary of the report: totals, changes, failures, and facts of the run.

const MAX_PATHS = 200;

function showSummary(report, filter) {
  document.title = `${report.title} \u2013 batch-label`;
  byId("name").textContent = report.title;
  showLead(report);
  for (const warning of report.warnings) byId("warnings").append(element("li", {}, warning));
  byId("warnings").hidden = !report.warnings.length;
  showTiles(report, filter);
  showTables(report);
  showChanges(report, filter);
  showFailures(report, filter);
  const facts = report.facts.flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", {}, value),
  ]);
  byId("facts").hidden = !facts.length;
  if (!report.editions.length) {
    // Without earlier reports, the facts are shown in place of the history.
    byId("history").replaceWith(byId("facts"));
    byId("facts").open = true;
  }
  byId("facts")
    .querySelector("div")
    .append(element("dl", { class: "facts" }, ...facts));
}

function showLead(report) {
  const { totals } = report;
  const run = report.facts.find(([name]) => name === "Run");
  const rows = report.perFace ? `${counted(totals.rows)} rows, one per face, of ` : "";
  const limit =
    report.size < totals.rows
      ? ` This page has the ${counted(report.size)} least certain rows.`
      : "";
  byId("lead").textContent =
    `${rows}${counted(totals.photos)} photos${run ? `, ${run[1]}` : ""}.${limit}`;
}

function showTiles(report, filter) {
  const { totals } = report;
  const known = new Set(totals.byAbstain.map(([status]) => status));
  const tiles = [["", "all", totals.rows]];
  for (const [status, count] of Object.entries(totals.byStatus)) {
    if (report.abstain.includes(status) && !known.has(status)) continue;
    tiles.push([status, report.statusTexts[status], count]);
  }
  if (totals.missing) tiles.push(["missing", "missing", totals.missing]);
  byId("tiles").append(
    ...tiles.map(([status, text, count]) =>
      element(
        "li",
        {},
        element(
          "button",
          {
            type: "button",
            class: `tile status-${status || "all"}`,
            disabled: !count,
            onclick: () => filter({ status }),
          },
          element("strong", {}, counted(count)),
          element("span", {}, text),
        ),
      ),
    ),
  );
}

// Makes the legend of a plot; empty if there are more labels than colours.
function legend(report) {
  const { byLabel, byAbstain } = report.totals;
  if (byLabel.length > LABEL_COLOURS) return "";
  const marks = [...byLabel, ...byAbstain].map(([answer]) => answerMark(report, answer));
  return element("p", { class: "legend" }, ...marks);
}

function asDetails(table) {
  return element("details", { class: "numbers" }, element("summary", {}, "As a table"), table);
}

function showTables(report) {
  const { totals, editions } = report;
  byId("labels-table").append(
    asDetails(
      tableOf(
        "Answers",
        ["answer", "sure", "unsure"],
        [
          ...totals.byLabel.map(([label, sure, unsure]) => [label, counted(sure), counted(unsure)]),
          ...totals.byAbstain.map(([status, n]) => [report.statusTexts[status], counted(n), "\u2013"]),
        ],
      ),
    ),
  );
  byId("confidence-table").append(
    legend(report),
    asDetails(
      tableOf(
        "Answers by confidence",
        ["confidence", "answers"],
        totals.byConfidence.map(([part, count]) => [part, counted(count)]),
      ),
    ),
  );
  if (!editions.length) return;
  const share = (value) => (value === null ? "\u2013" : percent(value));
  const head = [
    "report",
    "rows",
    "failed",
    "mean confidence",
    ...editions.at(-1).shares.map(([answer]) => answerText(report, answer)),
  ];
  byId("history-table").append(
    legend(report),
    asDetails(
      tableOf(
        "Earlier reports",
        head,
        editions.map((edition) => [
          `${edition.name}, ${edition.when}`,
          counted(edition.rows),
          counted(edition.failed),
          share(edition.meanConfidence),
          ...edition.shares.map(([, value]) => share(value)),
        ]),
      ),
    ),
  );
}

function pathList(paths, more) {
  const shown = paths
    .slice(0, MAX_PATHS)
    .map((path) => element("li", {}, element("bdi", {}, path)));
  if (more > 0) shown.push(element("li", { class: "muted" }, `and ${counted(more)} more`));
  return element("ul", { class: "paths" }, ...shown);
}

function showChanges(report, filter) {
  const place = byId("changes");
  if (!report.changes) {
    place.querySelector("summary").textContent = "Changes: no earlier report";
    place
      .querySelector("div")
      .append("To see changes, make the page with --previous and an earlier report.");
    return;
  }
  const { since, counts, gone, note } = report.changes;
  const numbers = counts.map(([change, count]) => `${counted(count)} ${change}`).join(", ");
  place.querySelector("summary").textContent = `Changes: ${numbers}`;
  const inside = place.querySelector("div");
  inside.append(element("p", {}, "Since ", element("bdi", {}, since), "."));
  if (note) inside.append(element("p", {}, `Note: ${note}.`));
  for (const [change, count, meaning] of counts.filter(([, number]) => number)) {
    const line = element("p", {}, `${counted(count)} ${change}: ${meaning}. `);
    if (change !== "gone")
      line.append(element("button", { type: "button", onclick: () => filter({ change }) }, "Show"));
    inside.append(line);
    if (change === "gone")
      inside.append(pathList(gone, count - Math.min(MAX_PATHS, gone.length)));
  }
}

function showFailures(report, filter) {
  const place = byId("failures");
  const total = report.totals.byStatus.failed;
  place.hidden = !total;
  place.querySelector("summary").textContent = `Failures: ${counted(total)}`;
  const paths = new Map(report.reasons.map(([reason]) => [reason, []]));
  for (const [row, error] of report.errors) {
    if (report.status(row) !== "failed") continue;
    const failure = report.missing.has(row) ? error.replace(/^.*?; /, "") : error;
    (paths.get(failure.split(":")[0]) ?? paths.get("other"))?.push(
      `${report.path(row)} \u2013 ${error}`,
    );
  }
  for (const [reason, count] of report.reasons) {
    const found = paths.get(reason);
    place
      .querySelector("div")
      .append(
        element(
          "h3",
          {},
          `${reason}: ${counted(count)} `,
          element(
            "button",
            { type: "button", onclick: () => filter({ status: "failed", search: `${reason}:` }) },
            "Show",
          ),
        ),
        pathList(found, count - Math.min(MAX_PATHS, found.length)),
      );
  }
}
