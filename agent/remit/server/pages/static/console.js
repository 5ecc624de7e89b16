"use strict";
// Every page works without this script. It shows what is recorded meanwhile, and counts down.
const live = document.querySelector("[data-live]");
if (live) {
  const source = new EventSource(live.dataset.live);
  source.addEventListener("page", (event) => {
    htmx.swap({ text: JSON.parse(event.data), target: live, swap: "innerMorph", sourceElement: live, select: null });
    live.dataset.shown = event.lastEventId;
    count();
  });
  const stale = () => { document.querySelector("#stale").hidden = false; source.close(); };
  source.addEventListener("end", stale);
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) stale(); });
}
const two = (number) => String(number).padStart(2, "0");
function count() {
  for (const item of document.querySelectorAll("time[data-until]")) {
    const left = Math.max(0, Math.floor(Number(item.dataset.until) - Date.now() / 1000));
    const hours = Math.floor(left / 3600);
    item.textContent = `${hours ? `${hours}:${two(Math.floor(left / 60) % 60)}` : Math.floor(left / 60)}:${two(left % 60)}`;
  }
}
if (document.querySelector("time[data-until]")) { count(); }
setInterval(count, 1000);
