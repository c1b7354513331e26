// What pages do beyond being read: they follow the store while somebody looks, and keep focus,
// scroll, selection and what is typed.  Without this file everything works by loading again.

const EVERY = 2000, LONGEST = 30000;
const live = document.getElementById("live");
let seq = Number(document.body.dataset.seq || 0);
let wait = EVERY, since = null, pending = 0, scheduled = 0;

function say(text) { if (live && live.textContent !== text) live.textContent = text; }

function busy() {
  const field = document.activeElement;
  const typing = field && field.closest("main") && /^(INPUT|SELECT|TEXTAREA)$/.test(field.tagName);
  return typing || String(document.getSelection() || "").length > 0;
}

async function look() {
  const answer = await fetch(`/api/v1/changes?after=${seq}&limit=1000`, { headers: { Accept: "application/json", "If-None-Match": `"${seq}"` } });
  if (answer.status === 401) { location.reload(); return; }
  if (answer.status === 304) return;
  if (answer.status === 410) { await show(); return; }
  if (!answer.ok) throw new Error(String(answer.status));
  const news = await answer.json();
  pending += news.changes.length;
  seq = news.seq;
  if (pending && !busy()) await show();
  else if (pending) say(`Paused while you select or type: ${pending} changes waiting`);
}

async function show() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(String(answer.status));
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!page.getElementById("main")) return;
  seq = Number(page.body.dataset.seq || seq);
  for (const id of ["beat", "clock", "main"]) {
    const here = document.getElementById(id), there = page.getElementById(id);
    if (here && there) morph(here, there);
  }
  say(`${pending} ${pending === 1 ? "change" : "changes"} shown`);
  pending = 0;
}

// Make `here` like `there`, touching only what differs.
function morph(here, there) {
  if (here.nodeType !== there.nodeType || here.nodeName !== there.nodeName) { here.replaceWith(there.cloneNode(true)); return; }
  if (here.nodeType !== Node.ELEMENT_NODE) { if (here.nodeValue !== there.nodeValue) here.nodeValue = there.nodeValue; return; }
  if (here.isEqualNode(there)) return;
  for (const { name } of [...here.attributes]) if (!there.hasAttribute(name) && name !== "open") here.removeAttribute(name);
  for (const { name, value } of there.attributes) if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  const old = [...here.childNodes], fresh = [...there.childNodes];
  fresh.forEach((node, place) => { if (place < old.length) morph(old[place], node); else here.append(node.cloneNode(true)); });
  old.slice(fresh.length).forEach((node) => node.remove());
}

function next() {
  clearTimeout(scheduled);
  if (!document.hidden) scheduled = setTimeout(turn, wait * (0.9 + Math.random() / 5));
}

async function turn() {
  try {
    await look();
    if (since) { since = null; say("Up to date again"); }
    wait = EVERY;
  } catch {
    since = since || new Date();
    say(`Stale since ${since.toLocaleTimeString()}`);
    wait = Math.min(LONGEST, wait * 2);
  }
  next();
}

if (live) {
  document.addEventListener("visibilitychange", () => { if (!document.hidden) turn(); });
  next();
}
// Forms are sent once.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) event.preventDefault(); else if (form.method === "post") form.dataset.sent = "yes";
});
// The middle of a long timetable is not its beginning: begin where the present is.
document.querySelector(".matrix thead .present")?.scrollIntoView({ block: "nearest", inline: "center" });
