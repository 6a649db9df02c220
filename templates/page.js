// What the page does by itself, and only with this: times in the reader's own zone, and news without asking for the page again.
// Everything is there without it too.
"use strict";

function localTimes(within) {
  const words = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  for (const time of within.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      time.title = time.dateTime;
      time.textContent = words.format(moment);
    }
  }
}

// The live part is put in anew; whoever stood in it with the keyboard stands where they stood.
function replace(region, html) {
  const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...region.querySelectorAll("details[open][id]")].map((details) => details.id);
  const status = region.querySelector("[role=status]");
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const freshStatus = fresh.content.querySelector("[role=status]");
  if (status && freshStatus && status.textContent === freshStatus.textContent) {
    // Left in its place, it is not read aloud again.
    freshStatus.replaceWith(status);
  } else if (status && freshStatus) {
    status.className = freshStatus.className;
    status.replaceChildren(...freshStatus.childNodes);
    freshStatus.replaceWith(status);
  }
  localTimes(fresh.content);
  for (const id of open) {
    const details = fresh.content.getElementById(id);
    if (details) details.open = true;
  }
  region.replaceChildren(fresh.content);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function follow(page, region) {
  const stale = document.getElementById("stale");
  let source = null;
  let wait = 1000;
  let timer = 0;

  function say(text) {
    stale.textContent = text;
    stale.hidden = text === "";
  }

  function heard(event) {
    const news = JSON.parse(event.data);
    wait = 1000;
    if (news.version !== page.dataset.version) return location.reload();
    if (news.html !== null) replace(region, news.html);
    say(news.problem === null ? "" : news.problem);
  }

  // The stream ended: an instance stops, or the session is over.
  async function lost() {
    close();
    try {
      const answer = await fetch(location.href, { method: "HEAD", redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect" || answer.status === 401) return location.reload();
    } catch {
      say("The service does not answer; this page comes back by itself.");
    }
    timer = setTimeout(open, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, 15000);
  }

  function open() {
    close();
    source = new EventSource(page.dataset.events);
    source.addEventListener("message", heard);
    source.addEventListener("error", lost);
  }

  function close() {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  }

  // A tab that nobody sees asks for nothing.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  if (!document.hidden) open();
}

document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("page");
  const region = document.getElementById("live");
  localTimes(document);
  if (page.dataset.events && region) follow(page, region);
});
