// Keyboard shortcuts, which are off while a text field has the focus.

function nextOpen(list, report, answers) {
  const after = list.rows.findIndex(
    (row, at) => at > list.current && report.canReview(row) && !answers.has(row),
  );
  return after < 0 ? list.current : after;
}

// Lists the shortcuts: their keys as the list of shortcuts shows them, what they do, and an action
// for each key by its name in the browser. A key without an entry here does nothing.
function shortcutsOf(report, answers, list, closeup) {
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
  const step = (by) => () => go(list.current + by);
  // Only in the list and the gallery, one photo is below another.
  const line = () => (closeup.isOpen ? 1 : list.columns);
  const clear = () => review(undefined);
  const labels = report.labels.slice(0, 9).map((label, at) => [at + 1, () => review(label)]);
  return [
    {
      keys: "\u2190 \u2192 \u2191 \u2193",
      does: "go to another photo",
      actions: {
        ArrowLeft: step(-1),
        ArrowRight: step(1),
        ArrowUp: () => go(list.current - line()),
        ArrowDown: () => go(list.current + line()),
      },
    },
    {
      keys: "j, k",
      does: "go to the next, previous photo",
      actions: { j: step(1), k: step(-1) },
    },
    {
      keys: "Home, End",
      does: "go to the first, last photo",
      actions: { Home: () => go(0), End: () => go(list.rows.length - 1) },
    },
    {
      keys: "n",
      does: "go to the next photo that is not reviewed",
      actions: { n: () => go(nextOpen(list, report, answers)) },
    },
    {
      keys: "1 to 9",
      does: "set the correct answer to the first, ... ninth label, and go to the next photo",
      actions: Object.fromEntries(labels),
    },
    {
      keys: "-",
      does: "set it to neither: a person who shows none of the labels",
      actions: { "-": () => review("neither") },
    },
    { keys: "0", does: "set it to no person", actions: { 0: () => review("no_person") } },
    {
      keys: "a",
      does: "confirm the answer of the report",
      actions: {
        a: () => {
          if (list.row !== undefined && report.answer(list.row)) review(report.answer(list.row));
        },
      },
    },
    {
      keys: "Delete, Backspace",
      does: "clear the correct answer",
      actions: { Delete: clear, Backspace: clear },
    },
    { keys: "u", does: "undo", actions: { u: () => undo(answers, list) } },
    {
      keys: "Enter",
      does: "enlarge the photo, or press the focused button",
      actions: {
        Enter: () => {
          if (list.row !== undefined) closeup.open(list.row);
        },
      },
    },
    {
      keys: "Escape",
      does: "close the enlarged photo",
      actions: { Escape: () => closeup.close() },
    },
    {
      keys: "/",
      does: "search",
      actions: {
        "/": () => {
          closeup.close();
          byId("filters").open = true;
          byId("search").focus();
        },
      },
    },
    { keys: "?", does: "show this list", actions: { "?": () => byId("keys").showModal() } },
  ];
}

function undo(answers, list) {
  const row = answers.undo();
  const at = list.rows.indexOf(row);
  if (at >= 0) list.go(at);
}

function listenToKeys(shortcuts, host, closeup) {
  // Other keys work only while a photo has the focus: elsewhere Enter, arrow keys and others have
  // another meaning, and an answer must be for a visible photo.
  const anywhere = new Set(["j", "k", "n", "u", "/", "?"]);
  const actions = Object.assign({}, ...shortcuts.map((shortcut) => shortcut.actions));
  addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
    const isOnItem = host.contains(target) || closeup.isOpen;
    if (!isOnItem && !anywhere.has(key)) return;
    if (key === "Escape" && !closeup.isOpen) return;
    // On a button or a link, Enter presses it: an answer is set, never taken back.
    if (key === "Enter" && (closeup.isOpen || /^(BUTTON|A)$/.test(target.tagName))) return;
    if (!Object.hasOwn(actions, key)) return;
    event.preventDefault();
    actions[key]();
  });
  byId("key-list").append(
    ...shortcuts.flatMap(({ keys, does }) => [
      element("dt", {}, element("kbd", {}, keys)),
      element("dd", {}, does),
    ]),
  );
}
