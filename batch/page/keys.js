// Keyboard shortcuts, which are off while a text field has the focus.

const KEY_TEXTS = [
  ["\u2190 \u2192 \u2191 \u2193", "go to another photo"],
  ["j, k", "go to the next, previous photo"],
  ["Home, End", "go to the first, last photo"],
  ["n", "go to the next photo that is not reviewed"],
  ["1 to 9", "set the correct answer to the first, ... ninth label, and go to the next photo"],
  ["-", "set it to neither: a person who shows none of the labels"],
  ["0", "set it to no person"],
  ["a", "confirm the answer of the report"],
  ["Delete", "clear the correct answer"],
  ["u", "undo"],
  ["Enter", "enlarge the photo"],
  ["/", "search"],
  ["?", "show this list"],
];

function nextOpen(list, report, answers) {
  const after = list.rows.findIndex(
    (row, at) => at > list.current && report.canReview(row) && !answers.given.has(row),
  );
  return after < 0 ? list.current : after;
}

function actionsOf(report, answers, list, closeup) {
  const go = (at) => {
    if (closeup.isOpen) closeup.step(at - list.current);
    // If the focus is elsewhere in the page, the first step returns to the current photo.
    else list.go(list.host.contains(document.activeElement) ? at : list.current);
  };
  const review = (label) => {
    if (list.row === undefined || !report.canReview(list.row)) return;
    answers.set(list.row, label);
    if (label !== undefined) go(list.current + 1);
  };
  const actions = {
    ArrowRight: () => go(list.current + 1),
    ArrowLeft: () => go(list.current - 1),
    ArrowDown: () => go(list.current + (closeup.isOpen ? 1 : list.columns)),
    ArrowUp: () => go(list.current - (closeup.isOpen ? 1 : list.columns)),
    j: () => go(list.current + 1),
    k: () => go(list.current - 1),
    Home: () => go(0),
    End: () => go(list.rows.length - 1),
    n: () => go(nextOpen(list, report, answers)),
    "-": () => review("neither"),
    0: () => review("no_person"),
    a: () => {
      if (report.answer(list.row)) review(report.answer(list.row));
    },
    Delete: () => review(undefined),
    Backspace: () => review(undefined),
    u: () => undo(answers, list),
    Enter: () => {
      if (list.row !== undefined) closeup.open(list.row);
    },
    Escape: () => closeup.close(),
    "/": () => {
      byId("filters").open = true;
      byId("search").focus();
    },
    "?": () => byId("keys").showModal(),
  };
  report.labels.slice(0, 9).forEach((label, at) => {
    actions[at + 1] = () => review(label);
  });
  return actions;
}

function undo(answers, list) {
  const row = answers.undo();
  const at = list.rows.indexOf(row);
  if (at >= 0) list.go(at);
}

function listenToKeys(actions, host, closeup) {
  // Other keys work only while a photo has the focus: elsewhere Enter, arrow keys and others have
  // another meaning, and an answer must be for a visible photo.
  const anywhere = new Set(["j", "k", "n", "u", "/", "?"]);
  addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
    const isOnItem = host.contains(target) || closeup.isOpen;
    if (!isOnItem && !anywhere.has(key)) return;
    if (key === "Escape" && !closeup.isOpen) return;
    if (key === "Enter" && (closeup.isOpen || target.tagName === "BUTTON")) return;
    if (!Object.hasOwn(actions, key)) return;
    event.preventDefault();
    actions[key]();
  });
  byId("key-list").append(
    ...KEY_TEXTS.flatMap(([key, text]) => [
      element("dt", {}, element("kbd", {}, key)),
      element("dd", {}, text),
    ]),
  );
}
