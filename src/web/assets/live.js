// Makes the page of a running build live. Without it the page shows the same, as of when it was loaded.
"use strict";
(() => {
  // The end of a log says most.
  for (const pane of document.querySelectorAll(".log")) pane.scrollTop = pane.scrollHeight;
  const live = document.getElementById("live");
  if (!live || !window.EventSource) return;

  const MAX_LINES = 3000;
  const SIGNS = { queued: "○", running: "●", passed: "✓", skipped: "–", failed: "✗", timed_out: "✗", cancelled: "⊘", broken: "!" };
  const steps = new Map();
  for (const log of document.querySelectorAll("details[data-step]")) {
    const pane = log.querySelector(".log");
    const last = pane.querySelector(".line:last-of-type");
    steps.set(decodeURIComponent(log.dataset.step), { log, pane, n: last ? Number(last.dataset.n) : 0, style: {} });
  }
  for (const lane of document.querySelectorAll("li[data-step]")) steps.get(decodeURIComponent(lane.dataset.step)).lane = lane;
  for (const link of document.querySelectorAll(".refresh")) link.remove();

  const source = new EventSource(live.dataset.events);
  source.addEventListener("line", (event) => line(JSON.parse(event.data)));
  source.addEventListener("step", (event) => step(JSON.parse(event.data)));
  source.addEventListener("state", (event) => {
    const build = JSON.parse(event.data);
    // A plan that became known, or another claim of the build: the page is made anew.
    if (build.state !== live.dataset.state || build.steps.some((known) => !steps.has(known.name))) reload();
  });
  source.addEventListener("end", reload);

  function reload() {
    source.close();
    location.reload();
  }

  function step(now) {
    const known = steps.get(now.name);
    if (!known) return reload();
    const state = now.outcome || now.state;
    for (const place of [known.lane, known.log]) {
      const mark = place.querySelector(".mark");
      mark.className = "mark " + state;
      mark.firstElementChild.textContent = SIGNS[state] || "";
      mark.lastElementChild.textContent = state.replace("_", " ");
    }
    known.lane.querySelector(".bar").setAttribute("class", "bar " + state);
    if (now.cache_note && !known.lane.querySelector(".cache")) {
      const note = document.createElement("p");
      note.className = "note cache " + now.cache;
      note.textContent = "cache " + now.cache + ": " + now.cache_note;
      known.lane.append(note);
    }
    const took = known.lane.querySelector(".took");
    if (now.state === "running") {
      took.dataset.since = Date.parse(now.started_at);
      known.log.open = true;
    } else {
      delete took.dataset.since;
      if (now.started_at && now.finished_at) took.textContent = brief(Date.parse(now.finished_at) - Date.parse(now.started_at));
    }
  }

  function line({ step: name, n, text }) {
    const known = steps.get(name);
    if (!known) return reload();
    if (n <= known.n) {
      known.pane.replaceChildren();
      known.style = {};
    }
    known.n = n;
    const pane = known.pane;
    const follows = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 40;
    const row = document.createElement("div");
    row.className = "line";
    row.dataset.n = n;
    paint(row, text, known.style);
    pane.append(row);
    while (pane.childElementCount > MAX_LINES) pane.firstElementChild.remove();
    if (follows) pane.scrollTop = pane.scrollHeight;
  }

  // The same rules as the server's: colours only; other sequences dropped; control characters shown. Text never becomes markup.
  function paint(row, text, style) {
    const sequences = /\x1b(?:\[([0-?]*)([ -/]*)([@-~])|([\]PX^_])|[ -/]+[0-~]|[0-OQ-WYZ\\`-~])/g;
    const ends = /\x07|\x1b\\/g;
    let at = 0;
    // None of the command strings that are still to come ends: looked for once, for a line may be full of them.
    let endless = false;
    for (let found; (found = sequences.exec(text)); ) {
      let end = sequences.lastIndex;
      if (found[4]) {
        ends.lastIndex = end;
        endless ||= !ends.test(text);
        if (endless) continue;
        end = ends.lastIndex;
      }
      put(row, text.slice(at, found.index), style);
      if (found[3] === "m" && !found[2]) select(style, found[1]);
      at = sequences.lastIndex = end;
    }
    put(row, text.slice(at), style);
  }

  function put(row, text, style) {
    if (!text) return;
    const shown = text
      .replace(/[\x00-\x08\x0a-\x1f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
      .replace(/\x7f/g, "\u2421")
      .replace(/[\x80-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (c) => "⟨U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "⟩");
    const classes = Object.values(style).filter(Boolean).join(" ");
    const piece = document.createElement("span");
    piece.className = classes;
    piece.textContent = shown;
    row.append(piece);
  }

  function select(style, parameters) {
    const codes = parameters.split(";").map((code) => code.split(":")[0]).map((code) => (/^\d+$/.test(code) && code < 256 ? Number(code) : 0));
    while (codes.length) {
      const code = codes.shift();
      if (code === 0) for (const key of Object.keys(style)) delete style[key];
      else if (code === 1) style.bold = "b";
      else if (code === 2) style.dim = "d";
      else if (code === 3) style.italic = "i";
      else if (code === 4) style.underlined = "u";
      else if (code === 22) style.bold = style.dim = "";
      else if (code === 23) style.italic = "";
      else if (code === 24) style.underlined = "";
      else if (code >= 30 && code <= 37) style.front = "f" + (code - 30);
      else if (code >= 90 && code <= 97) style.front = "f" + (code - 82);
      else if (code === 39) style.front = "";
      else if (code >= 40 && code <= 47) style.back = "g" + (code - 40);
      else if (code >= 100 && code <= 107) style.back = "g" + (code - 92);
      else if (code === 49) style.back = "";
      else if (code === 38 || code === 48) {
        const kind = codes.shift();
        const colour = kind === 5 ? codes.shift() : kind === 2 ? (codes.splice(0, 3), 16) : 16;
        style[code === 38 ? "front" : "back"] = colour < 16 ? (code === 38 ? "f" : "g") + colour : "";
      }
    }
  }

  function brief(milliseconds) {
    const seconds = milliseconds / 1000;
    if (seconds < 1) return seconds.toFixed(1) + "s";
    if (seconds < 60) return Math.round(seconds) + "s";
    if (seconds < 3600) return Math.floor(seconds / 60) + "m " + String(Math.floor(seconds % 60)).padStart(2, "0") + "s";
    return Math.floor(seconds / 3600) + "h " + String(Math.floor((seconds % 3600) / 60)).padStart(2, "0") + "m";
  }

  setInterval(() => {
    for (const took of document.querySelectorAll("[data-since]")) took.textContent = brief(Math.max(0, Date.now() - Number(took.dataset.since)));
  }, 1000);
})();
