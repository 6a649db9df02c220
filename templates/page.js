// What the page does by itself, and only with this: times in the reader's own zone, and news without asking for the page again.
// Everything is there without it too.
"use strict";

const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone;
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const year = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const relative = new Intl.RelativeTimeFormat("en", { style: "narrow" });

// As one says it: 15:02:22 today, 3 Mar, 15:02 on another day of this year.
function said(moment, now) {
  if (moment.toDateString() === now.toDateString()) return clock.format(moment);
  return (moment.getFullYear() === now.getFullYear() ? day : year).format(moment);
}

// How long ago, or in how long, in the largest unit that fits; in seconds it would never stand still.
function ago(moment, now) {
  const seconds = (moment - now) / 1000;
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  return seconds > 0 ? "in a moment" : "just now";
}

function localTimes(within) {
  const now = new Date();
  for (const time of within.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const words = document.createElement("span");
    words.className = "ago";
    words.textContent = ago(moment, now);
    time.title = `${whole.format(moment)} (${time.dateTime})`;
    time.replaceChildren(`${said(moment, now)} `, words);
  }
}

// Only what differs is changed: who reads, selects, scrolls or stands there with the keyboard is not disturbed, and nothing is read aloud twice.
function change(old, fresh) {
  if (old.nodeName !== fresh.nodeName || (old.id ?? "") !== (fresh.id ?? "")) {
    old.replaceWith(fresh);
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      // What the reader opened stays open.
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    changeChildren(old, fresh);
  }
}

function changeChildren(old, fresh) {
  const olds = [...old.childNodes];
  const news = [...fresh.childNodes];
  news.forEach((node, at) => (at < olds.length ? change(olds[at], node) : old.append(node)));
  olds.slice(news.length).forEach((node) => node.remove());
}

function replace(region, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  localTimes(fresh.content);
  changeChildren(region, fresh.content);
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
  const where = document.getElementById("zone");
  if (where) where.textContent = `All times are in your own time zone, ${zone}; hold the pointer on one for UTC.`;
  // What was a minute ago is two minutes ago by and by.
  setInterval(() => { if (!document.hidden) localTimes(document); }, 30000);
  if (page.dataset.events && region) follow(page, region);
});
