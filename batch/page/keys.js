// What keys do, outside of fields that take text.

const KEY_TEXTS = [
  ["\u2190 \u2192 \u2191 \u2193", "move from photo to photo"],
  ["j, k", "the next and the previous photo"],
  ["Home, End", "the first and the last photo"],
  ["n", "the next photo without an answer"],
  ["1 to 9", "its right label, the first to the ninth, and on to the next"],
  ["-", "neither: somebody is there who shows none of the labels"],
  ["0", "nobody is there"],
  ["a", "the answer that it has is right"],
  ["Delete", "take its answer back"],
  ["u", "undo"],
  ["Enter", "look closer"],
  ["/", "search"],
  ["?", "this list"],
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
    // From elsewhere in the page the first step leads to where the reviewer was.
    else list.go(list.host.contains(document.activeElement) ? at : list.current);
  };
  const say = (label) => {
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
    "-": () => say("neither"),
    0: () => say("no_person"),
    a: () => {
      if (report.answer(list.row)) say(report.answer(list.row));
    },
    Delete: () => say(undefined),
    Backspace: () => say(undefined),
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
    actions[at + 1] = () => say(label);
  });
  return actions;
}

function undo(answers, list) {
  const row = answers.undo();
  const at = list.rows.indexOf(row);
  if (at >= 0) list.go(at);
}

function listenToKeys(actions, host, closeup) {
  // Enter, arrows and the like have their own meaning on whatever else has the focus.
  // And an answer is for a photo that is in sight.
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
