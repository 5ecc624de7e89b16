"use strict";
// The page works without this script: each row opens by a click. The script only adds keys.
const rows = [...document.querySelectorAll("details.row")];
const summaries = rows.map((row) => row.querySelector("summary"));
const move = (by) => {
  const at = summaries.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : summaries.length - 1) : Math.min(summaries.length - 1, Math.max(0, at + by));
  if (summaries[next]) summaries[next].focus();
};
const keys = {
  j: () => move(1),
  k: () => move(-1),
  e: () => rows.forEach((row) => { row.open = true; }),
  c: () => rows.forEach((row) => { row.open = false; }),
  f: () => {
    const first = document.querySelector("details.row.first");
    if (first) { first.open = true; first.querySelector("summary").focus(); }
  },
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});
document.documentElement.dataset.keys = "on";
