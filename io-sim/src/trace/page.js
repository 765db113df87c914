// The page of `netsim trace`: decodes the columns it carries and draws them. No network, no library, no innerHTML.
//
// Columns per entry: template, node, time, cause; arguments of templates are read only where words are needed.
// What is drawn is what lies in view; wide views are drawn as densities.
(() => {
"use strict";
const $ = (id) => document.getElementById(id);
const meta = JSON.parse($("meta").textContent);

// ---- Data -----------------------------------------------------------------------------------------------------------

const bytes = (() => {
  const text = $("data").textContent.trim();
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
})();
$("data").remove();

const N = meta.count, FIRST = meta.first, NODES = meta.nodes.length, LANES = NODES + 1, WORLD = NODES;
const KIND = Object.fromEntries(meta.kinds.map((name, index) => [name, index]));
const templateKind = Uint8Array.from(meta.templates, (t) => t.kind);
const templateParts = meta.templates.map((t) => t.text.split(/\{([a-z])\}/));
const templateArgs = Uint8Array.from(templateParts, (parts) => (parts.length - 1) / 2);

// Time in ns fits a double up to 104 days.
const at = new Float64Array(N), cause = new Int32Array(N), kind = new Uint8Array(N), template = new Uint16Array(N);
const lane = new Uint16Array(N), argsAt = new Uint32Array(N + 1);

let cursor = 0;
function varint() {
  let byte = bytes[cursor++];
  if (byte < 128) return byte;
  let value = byte & 127, scale = 128;
  do { byte = bytes[cursor++]; value += (byte & 127) * scale; scale *= 128; } while (byte >= 128);
  return value;
}
(function decode() {
  for (let i = 0; i < N; i++) { const t = varint(); template[i] = t; kind[i] = templateKind[t]; }
  for (let i = 0; i < N; i++) { const n = varint(); lane[i] = n === 0 ? WORLD : n - 1; }
  let time = 0;
  for (let i = 0; i < N; i++) { time += varint(); at[i] = time; }
  for (let i = 0; i < N; i++) { const d = varint(); cause[i] = d === 0 ? -1 : d > i ? -2 : i - d; }
  for (let i = 0; i < N; i++) {
    argsAt[i] = cursor;
    for (let left = templateArgs[template[i]]; left > 0; left--) while (bytes[cursor++] >= 128);
  }
  argsAt[N] = cursor;
})();

function argsOf(i) {
  const out = [];
  let p = argsAt[i];
  for (let left = templateArgs[template[i]]; left > 0; left--) {
    const start = p;
    let value = 0, scale = 1;
    while (bytes[p] >= 128) { value += (bytes[p++] & 127) * scale; scale *= 128; }
    value += bytes[p++] * scale;
    if (p - start > 7) {
      let big = 0n;
      for (let q = p - 1; q >= start; q--) big = (big << 7n) | BigInt(bytes[q] & 127);
      value = big;
    }
    out.push(value);
  }
  return out;
}

const seconds = (ns, digits = 6) => (ns / 1e9).toFixed(digits);
function wordsOf(i) {
  const parts = templateParts[template[i]], args = argsOf(i);
  let text = parts[0];
  for (let k = 0; k < args.length; k++) {
    const arg = args[k];
    switch (parts[k * 2 + 1]) {
      case "x": text += "0x" + arg.toString(16); break;
      case "d": text += meta.nodes[Number(arg)]; break;
      case "s": case "a": text += meta.strings[Number(arg)]; break;
      case "t": text += `${Math.floor(Number(arg) / 1e9)}.${String(Math.floor(Number(arg) % 1e9 / 1e3)).padStart(6, "0")} s`; break;
      case "u": text += Math.floor(Number(arg) / 1000) + " us"; break;
      default: text += arg;
    }
    text += parts[k * 2 + 2];
  }
  return text;
}
const laneName = (l) => (l === WORLD ? "world" : meta.nodes[l]);
// What happens to a datagram on its way happens on a link, not on a lane.
const onTheWay = (i) => lane[i] === WORLD && origin[i] >= 0 && origin[i] !== i;
const placeOf = (i) => (onTheWay(i) ? "link" : laneName(lane[i]));
function longPlaceOf(i) {
  if (!onTheWay(i)) return laneName(lane[i]);
  const o = origin[i];
  return `on the way from ${lane[o] === WORLD ? "an adversary" : laneName(lane[o])}${target[o] >= 0 ? ` to ${laneName(target[o])}` : ""}`;
}
const idOf = (i) => FIRST + i;

const kindIs = (...names) => { const set = new Uint8Array(meta.kinds.length); for (const n of names) if (n in KIND) set[KIND[n]] = 1; return set; };
const isOrigin = kindIs("sent", "injected"), isEnd = kindIs("delivered", "dropped"), isFate = kindIs("held", "duplicated", "damaged", "waits");
const isLandmark = kindIs("violation", "crash", "boot", "boot-failed", "pause", "suspend", "resume", "rebind", "healed");
const isApplication = kindIs("command", "event", "message"), isWork = kindIs("job", "job-done", "store", "store-done", "refused");
const K = (name) => (name in KIND ? KIND[name] : 255);
const DELIVERED = K("delivered"), DROPPED = K("dropped"), TURN = K("turn"), VIOLATION = K("violation"), INJECTED = K("injected");

// The sending a datagram's entry belongs to; what happened to it on the way: 1 damaged, 2 second copy, 4 held, 8 forged.
const origin = new Int32Array(N).fill(-1), via = new Uint8Array(N), inFlight = new Int32Array(N);
const target = new Int16Array(N).fill(-1);
let violation = -1, longest = 0;
const landmarks = [], drops = [];
(function derive() {
  const damaged = K("damaged"), doubled = K("duplicated"), held = K("held");
  const peerArg = templateParts.map((parts) => { for (let k = 1; k < parts.length; k += 2) if (parts[k] === "d") return (k - 1) / 2; return -1; });
  let flying = 0;
  for (let i = 0; i < N; i++) {
    const k = kind[i];
    if (isOrigin[k]) {
      origin[i] = i; flying++;
      if (k === INJECTED) via[i] = 8;
      const arg = peerArg[template[i]];
      if (arg >= 0) {
        let p = argsAt[i];
        for (let skip = arg; skip > 0; skip--) while (bytes[p++] >= 128);
        let value = bytes[p] & 127;
        if (bytes[p] >= 128) value += (bytes[p + 1] & 127) * 128 + (bytes[p + 1] >= 128 ? bytes[p + 2] * 16384 : 0);
        target[i] = value;
      }
    } else if (isEnd[k] || isFate[k]) {
      const c = cause[i];
      if (c >= 0) { origin[i] = origin[c]; via[i] = via[c] | (k === damaged ? 1 : k === doubled ? 2 : k === held ? 4 : 0); }
      if (isEnd[k]) { flying--; if (origin[i] >= 0) longest = Math.max(longest, at[i] - at[origin[i]]); }
      if (k === doubled) flying++;
      if (k === DROPPED) drops.push(i);
    }
    inFlight[i] = flying;
    if (isLandmark[k]) landmarks.push(i);
    if (k === VIOLATION) violation = i;
  }
})();
const T_END = Math.max(meta.ended, N ? at[N - 1] : 0, 1), T_FIRST = FIRST > 0 && N ? at[0] : 0;

// Stretches in which a node has no running process, for its lane.
const rests = [];
(function restless() {
  const open = new Array(NODES).fill(null);
  if (FIRST === 0) for (let n = 0; n < NODES; n++) open[n] = { lane: n, from: 0, how: "down" };
  for (const i of landmarks) {
    const l = lane[i], name = meta.kinds[kind[i]];
    if (l >= NODES) continue;
    const how = { crash: "down", pause: "stopped", suspend: "stopped" }[name];
    if (how || name === "boot" || name === "resume") {
      if (open[l]) rests.push({ ...open[l], until: at[i] });
      open[l] = how ? { lane: l, from: at[i], how } : null;
    }
  }
  for (const rest of open) if (rest) rests.push({ ...rest, until: T_END });
})();

function lowerBound(time) {
  let low = 0, high = N;
  while (low < high) { const mid = (low + high) >> 1; if (at[mid] < time) low = mid + 1; else high = mid; }
  return low;
}

// Entries that followed from an entry: a table made when first needed.
let followers = null;
function effectsOf(i) {
  if (!followers) {
    const start = new Int32Array(N + 2);
    const each = (visit) => { for (let j = 0; j < N; j++) forCauses(j, (c) => visit(c, j)); };
    each((c) => start[c + 2]++);
    for (let j = 1; j <= N + 1; j++) start[j] += start[j - 1];
    const list = new Int32Array(start[N + 1]);
    each((c, j) => { list[start[c + 1]++] = j; });
    followers = { start, list };
  }
  return followers.list.subarray(followers.start[i], followers.start[i + 1]);
}
function forCauses(i, visit) {
  const c = cause[i];
  if (c < 0) return;
  visit(c);
  if (template[i] === meta.batch) {
    const count = Number(argsOf(i)[1]);
    for (let j = c + 1; j < c + count && j < i; j++) visit(j);
  }
}
function coneOf(i) {
  const mask = new Uint8Array(N), open = [i], list = [];
  mask[i] = 1;
  while (open.length) {
    const j = open.pop();
    list.push(j);
    forCauses(j, (c) => { if (!mask[c]) { mask[c] = 1; open.push(c); } });
  }
  return { mask, list: Int32Array.from(list).sort() };
}

// ---- State ----------------------------------------------------------------------------------------------------------

const view = { t0: 0, t1: T_END, top: 0 };
const kindOn = new Uint8Array(meta.kinds.length).fill(1), laneOn = new Uint8Array(LANES).fill(1);
let shown = new Uint8Array(N).fill(1), shownList = new Int32Array(0), searchMask = null, searchRun = 0;
let selected = -1, cone = null, coneOnly = false, moment = 0, playing = false, tab = "cone", hover = -1;

function refilter() {
  const only = coneOnly && cone ? cone.mask : null;
  let count = 0;
  for (let i = 0; i < N; i++) {
    const on = kindOn[kind[i]] & laneOn[lane[i]] & (only ? only[i] : 1) & (searchMask ? searchMask[i] : 1);
    shown[i] = on;
    count += on;
  }
  shownList = new Int32Array(count);
  for (let i = 0, j = 0; i < N; i++) if (shown[i]) shownList[j++] = i;
  $("shown").textContent = `${count.toLocaleString("en")} of ${N.toLocaleString("en")} events`;
  counts();
  lists();
  redraw(true);
}

function indexIn(list, i) {
  let low = 0, high = list.length;
  while (low < high) { const mid = (low + high) >> 1; if (list[mid] < i) low = mid + 1; else high = mid; }
  return low;
}

// ---- Colours --------------------------------------------------------------------------------------------------------

let ink = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  ink = {};
  for (const name of ["ground", "panel", "ink", "soft", "faint", "line", "grid", "accent", "accent-soft", "lane", "lane-alt", "delivered", "dropped", "doubled", "damaged", "held", "injected", "machine", "application", "turn", "work", "refused", "violation", "fault", "adversary", "on-violation"]) ink[name] = style.getPropertyValue("--" + name).trim();
}
const kindColour = { sent: "delivered", delivered: "delivered", dropped: "dropped", duplicated: "doubled", damaged: "damaged", held: "held", waits: "held", injected: "injected", refused: "refused", command: "application", event: "application", message: "application", turn: "turn", timer: "turn", job: "work", "job-done": "work", store: "work", "store-done": "work", boot: "machine", "boot-failed": "dropped", crash: "dropped", pause: "fault", suspend: "fault", resume: "machine", rebind: "machine", workload: "application", fault: "fault", "fault-end": "fault", backup: "fault", adversary: "adversary", strike: "adversary", healed: "machine", violation: "violation" };
const colourOf = (k) => ink[kindColour[meta.kinds[k]] || "turn"];

const themes = ["auto", "light", "dark"];
let theme = "auto";
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function applyTheme(next) {
  theme = next;
  const dark = theme === "dark" || (theme === "auto" && prefersDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = theme === "auto" ? "◐" : dark ? "☾" : "☀";
  $("theme").setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}`);
  readColours();
  legends();
  for (const row of $("kinds").querySelectorAll(".row")) row.querySelector("canvas").replaceWith(glyphCanvas(row.querySelector("input").dataset.name));
  describe();
  fillList();
  redraw(true);
}
function keepTheme(next) { try { localStorage.setItem("netsim-trace-theme", next); } catch { /* a page from a file may keep nothing */ } applyTheme(next); }

// ---- Glyphs ---------------------------------------------------------------------------------------------------------

// One shape per kind, so that colour is never needed to tell them apart.
function glyph(g, name, x, y, r) {
  g.beginPath();
  switch (name) {
    case "turn": g.arc(x, y, r * .62, 0, 7); g.fill(); break;
    case "timer": g.arc(x, y, r * .78, 0, 7); g.moveTo(x, y - r * .5); g.lineTo(x, y); g.lineTo(x + r * .4, y); g.stroke(); break;
    case "sent": g.arc(x, y, r * .38, 0, 7); g.fill(); break;
    case "injected": g.moveTo(x, y - r * .8); g.lineTo(x + r * .8, y); g.lineTo(x, y + r * .8); g.lineTo(x - r * .8, y); g.closePath(); g.stroke(); break;
    case "delivered": g.moveTo(x - r * .7, y - r * .6); g.lineTo(x + r * .6, y); g.lineTo(x - r * .7, y + r * .6); g.closePath(); g.fill(); break;
    case "dropped": case "crash": case "boot-failed": g.moveTo(x - r * .65, y - r * .65); g.lineTo(x + r * .65, y + r * .65); g.moveTo(x + r * .65, y - r * .65); g.lineTo(x - r * .65, y + r * .65); g.stroke(); break;
    case "duplicated": g.rect(x - r * .75, y - r * .75, r, r); g.rect(x - r * .25, y - r * .25, r, r); g.stroke(); break;
    case "damaged": g.moveTo(x - r * .9, y + r * .3); g.lineTo(x - r * .3, y - r * .5); g.lineTo(x + r * .2, y + r * .4); g.lineTo(x + r * .9, y - r * .4); g.stroke(); break;
    case "held": case "waits": g.moveTo(x - r * .4, y - r * .7); g.lineTo(x - r * .4, y + r * .7); g.moveTo(x + r * .4, y - r * .7); g.lineTo(x + r * .4, y + r * .7); g.stroke(); break;
    case "refused": g.arc(x, y, r * .75, 0, 7); g.moveTo(x - r * .5, y + r * .5); g.lineTo(x + r * .5, y - r * .5); g.stroke(); break;
    case "command": g.moveTo(x - r * .75, y - r * .6); g.lineTo(x + r * .75, y - r * .6); g.lineTo(x, y + r * .7); g.closePath(); g.fill(); break;
    case "event": g.moveTo(x - r * .75, y + r * .6); g.lineTo(x + r * .75, y + r * .6); g.lineTo(x, y - r * .7); g.closePath(); g.stroke(); break;
    case "message": g.rect(x - r * .65, y - r * .5, r * 1.3, r); g.moveTo(x - r * .65, y - r * .5); g.lineTo(x, y + r * .1); g.lineTo(x + r * .65, y - r * .5); g.stroke(); break;
    case "boot": case "resume": case "healed": g.moveTo(x, y - r * .8); g.lineTo(x, y + r * .8); g.moveTo(x - r * .8, y); g.lineTo(x + r * .8, y); g.stroke(); break;
    case "pause": case "suspend": g.rect(x - r * .6, y - r * .7, r * .4, r * 1.4); g.rect(x + r * .2, y - r * .7, r * .4, r * 1.4); g.fill(); break;
    case "rebind": g.arc(x, y, r * .65, .8, 6); g.lineTo(x + r * .9, y - r * .5); g.stroke(); break;
    case "fault": case "fault-end": case "backup": case "adversary": case "strike": case "workload": g.moveTo(x - r * .5, y + r * .8); g.lineTo(x - r * .5, y - r * .8); g.lineTo(x + r * .8, y - r * .35); g.lineTo(x - r * .5, y + r * .1); if (name === "fault" || name === "adversary") g.fill(); g.stroke(); break;
    case "violation": for (let k = 0; k < 8; k++) { const a = k * Math.PI / 4 - Math.PI / 8, q = k % 2 ? 1 : 1; g.lineTo(x + Math.cos(a) * r * q, y + Math.sin(a) * r * q); } g.closePath(); g.fill(); break;
    default: g.rect(x - r * .45, y - r * .45, r * .9, r * .9); if (name.endsWith("-done")) g.fill(); else g.stroke();
  }
}
function glyphCanvas(name) {
  const c = document.createElement("canvas"), scale = devicePixelRatio || 1;
  c.width = 20 * scale; c.height = 14 * scale;
  c.setAttribute("aria-hidden", "true");
  const g = c.getContext("2d");
  g.scale(scale, scale);
  g.fillStyle = g.strokeStyle = ink[kindColour[name] || "turn"];
  g.lineWidth = 1.5;
  glyph(g, name, 10, 7, 5.5);
  return c;
}

// How a datagram's line is drawn: colour, dashes and thickness all differ.
const styles = {
  delivered: { name: "delivered", colour: "delivered", dash: [], width: 1.2 },
  held: { name: "delivered late (reordered)", colour: "held", dash: [9, 3], width: 1.4 },
  doubled: { name: "second copy", colour: "doubled", dash: [2, 3], width: 1.8 },
  damaged: { name: "delivered damaged", colour: "damaged", dash: [6, 2, 1, 2], width: 1.8, wave: true },
  injected: { name: "sent by an adversary", colour: "injected", dash: [1, 3], width: 2 },
  dropped: { name: "dropped", colour: "dropped", dash: [4, 3], width: 1.4 },
};
function styleOf(i) {
  if (kind[i] === DROPPED) return "dropped";
  const v = via[i];
  return v & 1 ? "damaged" : v & 8 ? "injected" : v & 2 ? "doubled" : v & 4 ? "held" : "delivered";
}
function legends() {
  const rows = [];
  for (const [key, style] of Object.entries(styles)) {
    const c = document.createElement("canvas"), scale = devicePixelRatio || 1;
    c.width = 26 * scale; c.height = 14 * scale;
    c.setAttribute("aria-hidden", "true");
    const g = c.getContext("2d");
    g.scale(scale, scale);
    g.strokeStyle = g.fillStyle = ink[style.colour];
    line(g, style, 1, 7, key === "dropped" ? 16 : 20, 7, true);
    g.setLineDash([]); g.lineWidth = 1.6;
    glyph(g, key === "dropped" ? "dropped" : "delivered", key === "dropped" ? 19 : 21, 7, 4.5);
    rows.push([c, style.name]);
  }
  const item = ([c, name]) => { const li = document.createElement("li"); li.append(c, name); return li; };
  $("legend").replaceChildren(...rows.map(item));
  const more = ["violation", "crash", "boot", "turn", "timer", "command", "event", "message", "refused", "job", "fault"].filter((name) => name in KIND);
  const label = { event: "told to the application", command: "command of the application", message: "message complete", refused: "refused by the kernel", job: "job or storage", fault: "fault begins" };
  $("legend-long").replaceChildren(...more.map((name) => item([glyphCanvas(name), label[name] || name])));
}
function line(g, style, x0, y0, x1, y1, fine) {
  g.beginPath();
  g.lineWidth = style.width;
  if (style.wave && fine) {
    g.setLineDash([]);
    const dx = x1 - x0, dy = y1 - y0, length = Math.hypot(dx, dy), steps = Math.max(4, Math.min(120, Math.round(length / 4)));
    const nx = -dy / (length || 1) * 2, ny = dx / (length || 1) * 2;
    g.moveTo(x0, y0);
    for (let k = 1; k < steps; k++) { const s = k % 2 ? 1 : -1; g.lineTo(x0 + dx * k / steps + nx * s, y0 + dy * k / steps + ny * s); }
    g.lineTo(x1, y1);
  } else {
    g.setLineDash(style.dash);
    g.moveTo(x0, y0); g.lineTo(x1, y1);
  }
  g.stroke();
}

// ---- Geometry -------------------------------------------------------------------------------------------------------

const GUTTER = 92, AXIS = 26, STRIP = 16;
const chart = $("chart"), overview = $("overview");
let W = 0, H = 0, laneHeight = 60, visibleLanes = [], laneAt = new Int32Array(LANES), strips = 0;
const px = (time) => GUTTER + (time - view.t0) / (view.t1 - view.t0) * (W - GUTTER);
const timeAt = (x) => view.t0 + (x - GUTTER) / (W - GUTTER) * (view.t1 - view.t0);
// The scenario's own lane, on top where there is one, is lower than a node's.
let worldHeight = 0;
const laneY = (l) => top() - view.top + (l === WORLD ? worldHeight / 2 : worldHeight + (laneAt[l] - (worldHeight ? 1 : 0) + .5) * laneHeight);
const heightOf = (l) => (l === WORLD ? worldHeight : laneHeight);
const top = () => AXIS + strips * STRIP + (strips ? 6 : 0);

// Faults and adversaries in rows above the lanes, each where it finds room.
const bands = [...meta.faults.map((b) => ({ ...b, colour: "fault" })), ...meta.adversaries.map((b) => ({ ...b, colour: "adversary" }))]
  .map((b) => ({ ...b, until: b.until === null ? T_END : Math.min(b.until, T_END) })).filter((b) => b.from <= T_END).sort((a, b) => a.from - b.from);
(function stack() {
  const ends = [];
  for (const b of bands) {
    let row = ends.findIndex((end) => end <= b.from);
    if (row < 0) row = ends.length;
    b.row = Math.min(row, 5);
    ends[row] = b.until + T_END * .04;
    for (const before of bands) if (before !== b && before.row === b.row && !before.next && before.from <= b.from && bands.indexOf(before) < bands.indexOf(b)) before.next = b;
  }
})();

const hasWorld = (() => { for (let i = 0; i < N; i++) if (lane[i] === WORLD && !isFate[kind[i]] && kind[i] !== DROPPED) return true; return false; })();
function layout() {
  visibleLanes = [];
  for (let l = 0; l < LANES; l++) if (laneOn[l] && (l !== WORLD || hasWorld)) visibleLanes.push(l);
  if (visibleLanes.includes(WORLD)) visibleLanes = [WORLD, ...visibleLanes.filter((l) => l !== WORLD)];
  laneAt.fill(-1);
  visibleLanes.forEach((l, row) => { laneAt[l] = row; });
  strips = bands.length ? Math.max(...bands.map((b) => b.row)) + 1 : 0;
  const room = H - top() - 8;
  worldHeight = visibleLanes[0] === WORLD ? Math.max(24, Math.min(44, room / (visibleLanes.length + 1))) : 0;
  laneHeight = Math.max(26, Math.min(150, (room - worldHeight) / Math.max(1, visibleLanes.length - (worldHeight ? 1 : 0))));
  const total = worldHeight + (visibleLanes.length - (worldHeight ? 1 : 0)) * laneHeight, most = Math.max(0, total - room);
  view.top = Math.min(Math.max(0, view.top), most);
  const bar = $("lane-scroll");
  bar.hidden = most <= 0;
  if (most > 0) {
    const thumb = bar.firstElementChild;
    thumb.style.top = `${top() + view.top / total * room}px`;
    thumb.style.height = `${Math.max(20, room / total * room)}px`;
  }
}
function rowOffset(i) { const k = kind[i]; return lane[i] === WORLD ? 0 : Math.min(34, laneHeight * .27) * (isApplication[k] ? -1 : isWork[k] ? 1 : 0); }

function setView(t0, t1) {
  const least = 50;
  let span = Math.min(Math.max(t1 - t0, least), T_END * 1.1 + 1000);
  const middle = (t0 + t1) / 2, low = -T_END * .05 - 500, high = T_END * 1.05 + 500;
  t0 = middle - span / 2; t1 = middle + span / 2;
  if (t0 < low) { t0 = low; t1 = low + span; }
  if (t1 > high) { t1 = high; t0 = Math.max(low, high - span); }
  view.t0 = t0; view.t1 = t1;
  redraw();
}
const zoom = (factor, x = (W + GUTTER) / 2) => { const t = timeAt(x); setView(t - (t - view.t0) * factor, t + (view.t1 - t) * factor); };
const pan = (share) => { const span = view.t1 - view.t0; setView(view.t0 + span * share, view.t1 + span * share); };
function fit(list) {
  if (!list || !list.length) return setView(T_FIRST - (T_END - T_FIRST) * .01, T_END + (T_END - T_FIRST) * .02);
  const from = at[list[0]], to = at[list[list.length - 1]], span = Math.max(to - from, 2000);
  setView(from - span * .06, to + span * .08);
}
function reveal(i) {
  const span = view.t1 - view.t0, t = at[i];
  if (t < view.t0 + span * .03 || t > view.t1 - span * .03) setView(t - span * .62, t + span * .38);
  if (laneAt[lane[i]] >= 0) {
    const y = laneY(lane[i]);
    if (y < top() + laneHeight / 2) view.top -= top() + laneHeight / 2 - y;
    else if (y > H - laneHeight / 2) view.top += y - H + laneHeight / 2;
  }
}

// ---- Drawing --------------------------------------------------------------------------------------------------------

let pending = false, whole = true;
function redraw(all) { if (all) whole = true; if (!pending) { pending = true; requestAnimationFrame(draw); } }
function fitCanvas(canvas) {
  const scale = devicePixelRatio || 1, box = canvas.parentElement.getBoundingClientRect();
  const w = Math.max(1, Math.round(box.width)), h = Math.max(1, Math.round(box.height));
  if (canvas.width !== w * scale || canvas.height !== h * scale) { canvas.width = w * scale; canvas.height = h * scale; }
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  return { g, w, h };
}

let backdrop = null;
function draw() {
  pending = false;
  const { g, w, h } = fitCanvas(chart);
  W = w; H = h;
  layout();
  g.fillStyle = ink.panel;
  g.fillRect(0, 0, W, H);
  drawLanes(g);
  drawBands(g);
  g.save();
  g.beginPath(); g.rect(GUTTER, top(), W - GUTTER, H - top()); g.clip();
  drawRests(g);
  const from = lowerBound(view.t0), to = lowerBound(view.t1);
  const dense = to - from > 24000;
  drawArrows(g, from, to, dense);
  if (dense) drawDensity(g, from, to);
  drawMarks(g, from, to, dense);
  drawMoment(g);
  g.restore();
  drawLabels(g);
  drawAxis(g);
  drawOverview();
  drawClock();
  if (!netsimTrace.drawnMs) requestAnimationFrame(() => setTimeout(() => { netsimTrace.drawnMs = performance.now(); }));
}

function drawLanes(g) {
  for (const l of visibleLanes) {
    const y = laneY(l);
    if (y < top() - laneHeight || y > H + laneHeight) continue;
    if (l !== WORLD && laneAt[l] % 2) { g.fillStyle = ink["lane-alt"]; g.fillRect(0, y - laneHeight / 2, W, laneHeight); }
    g.strokeStyle = ink.lane; g.lineWidth = l === WORLD ? .8 : 1.2;
    g.setLineDash(l === WORLD ? [2, 4] : []);
    g.beginPath(); g.moveTo(GUTTER, y); g.lineTo(W, y); g.stroke();
  }
  g.setLineDash([]);
}
function drawRests(g) {
  for (const rest of rests) {
    if (laneAt[rest.lane] < 0 || rest.until < view.t0 || rest.from > view.t1) continue;
    const y = laneY(rest.lane), x0 = Math.max(GUTTER, px(rest.from)), x1 = Math.min(W, px(rest.until));
    if (x1 - x0 < .5) continue;
    g.fillStyle = ink.panel; g.fillRect(x0, y - 2, x1 - x0, 4);
    g.strokeStyle = rest.how === "down" ? ink.dropped : ink.fault; g.globalAlpha = .55; g.lineWidth = 1;
    g.setLineDash(rest.how === "down" ? [1, 5] : [6, 4]);
    g.beginPath(); g.moveTo(x0, y); g.lineTo(x1, y); g.stroke();
    g.globalAlpha = 1; g.setLineDash([]);
    if (x1 - x0 > 60) { g.fillStyle = ink.soft; g.font = "10.5px " + fonts.sans; g.textAlign = "center"; g.fillText(rest.how, (x0 + x1) / 2, y + 13); }
  }
}
const fonts = { sans: 'system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif', mono: 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace' };
function drawBands(g) {
  g.font = "11px " + fonts.sans; g.textBaseline = "middle"; g.textAlign = "left";
  for (const b of bands) {
    if (b.until < view.t0 || b.from > view.t1) continue;
    const x0 = Math.max(GUTTER, px(b.from)), x1 = Math.max(x0 + 2, Math.min(W, px(b.until))), y = AXIS + 3 + b.row * STRIP;
    g.save();
    g.beginPath(); g.rect(GUTTER, 0, W - GUTTER, H); g.clip();
    g.fillStyle = ink[b.colour];
    g.globalAlpha = b.colour === "fault" ? .075 : .025;
    const lanes = b.nodes.length ? b.nodes : visibleLanes;
    for (const l of lanes) {
      if (laneAt[l] < 0) continue;
      const ly = laneY(l) - heightOf(l) / 2, cut = Math.max(ly, top());
      if (ly + heightOf(l) > cut) g.fillRect(x0, cut, x1 - x0, ly + heightOf(l) - cut);
    }
    g.globalAlpha = .9;
    g.fillRect(x0, y + STRIP - 5, x1 - x0, 2);
    g.globalAlpha = .35;
    if (b.from > view.t0) g.fillRect(x0, y + 2, 1, H);
    if (b.until < view.t1 && b.until < T_END) { g.fillRect(x1, y + 2, 1, H); }
    g.globalAlpha = 1;
    g.fillStyle = ink[b.colour];
    const label = `${b.id} · ${b.kind}`;
    const room = b.next ? px(b.next.from) - 4 - x0 : W;
    g.beginPath(); g.rect(x0, y - 2, Math.max(x1 - x0, room), STRIP); g.clip();
    g.fillText(label, x0 + 4, y + 5);
    g.restore();
  }
}

// An event without causes has no cone worth dimming the rest for.
// What becomes of the selected datagram is lit with its causes.
function emphasis(i) { return !cone || cone.list.length < 2 ? 1 : cone.mask[i] || (origin[i] >= 0 && origin[i] === origin[selected]) ? 2 : 0; }

function drawArrows(g, from, to, dense) {
  // Arrows that end right of the view began in it: look as far ahead as a datagram travels, within reason.
  const end = Math.min(N, Math.max(to, Math.min(lowerBound(view.t1 + longest), to + 60000)));
  const groups = new Map();
  const seen = dense ? new Set() : null, bin = 3;
  let count = 0;
  for (let i = from; i < end; i++) {
    const k = kind[i];
    if (k !== DELIVERED && k !== DROPPED || !shown[i]) continue;
    const o = origin[i];
    if (o < 0 || at[o] > view.t1) continue;
    const l0 = lane[o], l1 = k === DELIVERED ? lane[i] : lane[i] !== WORLD ? lane[i] : target[o] >= 0 ? target[o] : -1;
    if (laneAt[l0] < 0 || !laneOn[l0]) continue;
    const level = emphasis(i), style = styleOf(i);
    // Wide views tell of losses by the densities' red feet.
    if (dense && k === DROPPED && level < 2) continue;
    if (seen && level < 2) {
      const key = ((Math.round(px(at[o]) / bin) * LANES + l0) * (LANES + 1) + l1 + 1) * 6 + style.length % 6;
      if (seen.has(key)) continue;
      seen.add(key);
      if (seen.size > 9000) break;
    }
    const key = style + level;
    let group = groups.get(key);
    if (!group) groups.set(key, (group = { style: styles[style], level, drop: style === "dropped", items: [] }));
    group.items.push(i, o, l1);
    count++;
  }
  const fine = count < 700, heads = count < 5000;
  const ordered = [...groups.values()].sort((a, b) => a.level - b.level || (a.drop ? 1 : 0) - (b.drop ? 1 : 0));
  for (const group of ordered) {
    const { style, level } = group;
    g.strokeStyle = g.fillStyle = ink[style.colour];
    const crowd = dense ? .22 : count > 2500 ? .4 : .85;
    g.globalAlpha = level === 2 ? 1 : level === 0 ? .18 : crowd;
    const thick = { ...style, width: style.width * (level === 2 ? 1.9 : 1) };
    if (!fine || !style.wave) { g.lineWidth = thick.width; g.setLineDash(dense ? [] : style.dash); }
    g.beginPath();
    const tips = [];
    for (let n = 0; n < group.items.length; n += 3) {
      const i = group.items[n], o = group.items[n + 1], l1 = group.items[n + 2];
      const [x0, y0, x1, y1] = arrowPoints(i, o, l1);
      if (y0 < top() - H && y1 < top() - H || x1 < GUTTER && x0 < GUTTER) continue;
      if (fine && style.wave) { line(g, thick, x0, y0, x1, y1, true); g.setLineDash([]); } else { g.moveTo(x0, y0); g.lineTo(x1, y1); }
      if (heads || level === 2) tips.push(x0, y0, x1, y1);
    }
    if (!fine || !style.wave) g.stroke();
    g.setLineDash([]);
    drawTips(g, tips, group.drop, level);
  }
  g.globalAlpha = 1;
}
// From its sending to its end; a loss on the way ends part of the way to where it was going.
function arrowPoints(i, o, l1) {
  const x0 = px(at[o]), y0 = laneY(lane[o]);
  if (kind[i] === DELIVERED || lane[i] !== WORLD && laneAt[lane[i]] >= 0) {
    const l = laneAt[lane[i]] >= 0 ? lane[i] : lane[o];
    return [x0, y0, px(at[i]), laneY(l)];
  }
  const goes = l1 >= 0 && laneAt[l1] >= 0 ? laneY(l1) : y0 - laneHeight;
  const reach = Math.min(Math.abs(goes - y0) * .42, laneHeight * .5) * Math.sign(goes - y0 || -1);
  return [x0, y0, x0 + Math.abs(reach) * .55, y0 + reach];
}
function drawTips(g, tips, drop, level) {
  const r = level === 2 ? 6 : 4.4;
  g.lineWidth = drop ? 1.8 : 1;
  g.beginPath();
  for (let n = 0; n < tips.length; n += 4) {
    const x0 = tips[n], y0 = tips[n + 1], x1 = tips[n + 2], y1 = tips[n + 3];
    if (drop) {
      g.moveTo(x1 - r * .7, y1 - r * .7); g.lineTo(x1 + r * .7, y1 + r * .7);
      g.moveTo(x1 + r * .7, y1 - r * .7); g.lineTo(x1 - r * .7, y1 + r * .7);
    } else {
      const length = Math.hypot(x1 - x0, y1 - y0) || 1, ux = (x1 - x0) / length, uy = (y1 - y0) / length;
      g.moveTo(x1, y1);
      g.lineTo(x1 - ux * r * 1.5 - uy * r * .55, y1 - uy * r * 1.5 + ux * r * .55);
      g.lineTo(x1 - ux * r * 1.5 + uy * r * .55, y1 - uy * r * 1.5 - ux * r * .55);
      g.closePath();
    }
  }
  if (drop) g.stroke(); else g.fill();
}

function drawDensity(g, from, to) {
  const columns = Math.max(1, Math.floor((W - GUTTER) / 2)), bins = new Uint32Array(LANES * columns), bad = new Uint32Array(LANES * columns), lit = new Uint32Array(LANES * columns);
  const scale = columns / (view.t1 - view.t0);
  let most = 1;
  for (let i = from; i < to; i++) {
    if (!shown[i]) continue;
    const c = Math.min(columns - 1, Math.max(0, ((at[i] - view.t0) * scale) | 0));
    const l = onTheWay(i) ? lane[origin[i]] : lane[i];
    const v = ++bins[l * columns + c];
    if (v > most) most = v;
    if (kind[i] === DROPPED) bad[l * columns + c]++;
    if (cone && cone.mask[i]) lit[l * columns + c]++;
  }
  const full = laneHeight * .36, unit = full / Math.log2(most + 1);
  for (const l of visibleLanes) {
    const y = laneY(l);
    if (y < -laneHeight || y > H + laneHeight) continue;
    for (let c = 0; c < columns; c++) {
      const v = bins[l * columns + c];
      if (!v) continue;
      const h = Math.max(1, Math.log2(v + 1) * unit), x = GUTTER + c * 2;
      g.globalAlpha = cone ? .3 : .8;
      g.fillStyle = ink.turn; g.fillRect(x, y - h, 2, h * 2);
      const cut = bad[l * columns + c];
      g.globalAlpha = 1;
      if (cut) { const q = Math.max(1.5, Math.log2(cut + 1) * unit); g.fillStyle = ink.dropped; g.fillRect(x, y + h - q, 2, q); }
      if (cone && lit[l * columns + c]) { g.fillStyle = ink.accent; g.fillRect(x, y - Math.max(h, 4), 2, Math.max(h, 4) * 2); }
    }
  }
  g.globalAlpha = 1;
}

function drawMarks(g, from, to, dense) {
  const spot = new Set();
  const one = (i, big) => {
    const l = lane[i];
    if (laneAt[l] < 0 || !shown[i]) return;
    const name = meta.kinds[kind[i]], level = emphasis(i), x = px(at[i]), y = laneY(l) + rowOffset(i);
    if (y < top() - 20 || y > H + 20) return;
    if (!big && level < 2) {
      const key = ((x * 1.5) | 0) * 4096 + laneAt[l] * 3 + (isApplication[kind[i]] ? 0 : isWork[kind[i]] ? 2 : 1);
      if (spot.has(key)) return;
      spot.add(key);
    }
    g.globalAlpha = level === 0 ? .26 : 1;
    g.fillStyle = g.strokeStyle = colourOf(kind[i]);
    g.lineWidth = 1.4;
    if (name === "violation") return;
    glyph(g, name, x, y, (big ? 6 : 4.6) * Math.min(1.15, Math.max(.72, laneHeight / 60)) * (level === 2 ? 1.25 : 1));
  };
  g.setLineDash([]);
  if (!dense) {
    drawWork(g, from, to);
    for (let i = from; i < to; i++) {
      const k = kind[i];
      if (k === DELIVERED || isLandmark[k] || k === DROPPED || isFate[k]) continue;
      one(i, false);
    }
  }
  for (const i of landmarks) if (at[i] >= view.t0 && at[i] <= view.t1) one(i, true);
  if (cone && dense) for (const i of cone.list) if (at[i] >= view.t0 && at[i] <= view.t1 && kind[i] !== DELIVERED) one(i, false);
  g.globalAlpha = 1;
  if (violation >= 0 && at[violation] >= view.t0 && at[violation] <= view.t1) drawViolation(g);
  if (hover >= 0 && hover !== selected) ring(g, hover, ink.soft, 8, 1);
  if (selected >= 0) ring(g, selected, ink.accent, 10, 2.2);
}
function ring(g, i, colour, r, width) {
  if (laneAt[lane[i]] < 0 && !(kind[i] === DROPPED)) return;
  const [x, y] = pointOf(i);
  g.strokeStyle = colour; g.lineWidth = width;
  g.beginPath(); g.arc(x, y, r, 0, 7); g.stroke();
}
function pointOf(i) {
  if ((kind[i] === DROPPED || isFate[kind[i]]) && lane[i] === WORLD && origin[i] >= 0) {
    const o = origin[i];
    if (kind[i] === DROPPED) { const p = arrowPoints(i, o, target[o]); return [p[2], p[3]]; }
    return [px(at[o]), laneY(lane[o])];
  }
  return [px(at[i]), laneY(lane[i]) + rowOffset(i)];
}
// Jobs and storage operations as bars from their beginning to their end.
function drawWork(g, from, to) {
  const job = K("job-done"), store = K("store-done");
  const end = Math.min(N, to + 4000);
  for (let i = from; i < end; i++) {
    if (kind[i] !== job && kind[i] !== store || cause[i] < 0 || !shown[i] || laneAt[lane[i]] < 0) continue;
    const x0 = px(at[cause[i]]), x1 = px(at[i]), y = laneY(lane[i]) + rowOffset(i);
    if (x0 > W || x1 < GUTTER || x1 - x0 < 2) continue;
    g.globalAlpha = emphasis(i) === 0 ? .12 : .35;
    g.fillStyle = ink.work;
    g.fillRect(x0, y - 1.5, x1 - x0, 3);
  }
  g.globalAlpha = 1;
}
function drawViolation(g) {
  const x = px(at[violation]), l = lane[violation];
  g.fillStyle = ink.violation;
  g.globalAlpha = .85; g.fillRect(x - .75, AXIS, 1.5, H); g.globalAlpha = 1;
  const y = laneAt[l] >= 0 ? laneY(l) : top() + 10;
  glyph(g, "violation", x, y, 9.5);
  g.fillStyle = ink["on-violation"]; g.font = "bold 12px " + fonts.sans; g.textAlign = "center"; g.textBaseline = "middle";
  g.fillText("!", x, y + .5);
}
function drawMoment(g) {
  const x = px(moment);
  if (x < GUTTER || x > W) return;
  g.strokeStyle = ink.accent; g.lineWidth = 1; g.globalAlpha = .7;
  g.beginPath(); g.moveTo(x, AXIS); g.lineTo(x, H); g.stroke();
  g.globalAlpha = 1;
  if (playing) { g.fillStyle = ink.panel; g.globalAlpha = .6; g.fillRect(x + 1, AXIS, W, H); g.globalAlpha = 1; }
}
function drawLabels(g) {
  g.fillStyle = ink.panel; g.fillRect(0, AXIS, GUTTER, H);
  g.fillStyle = ink.line; g.fillRect(GUTTER - 1, AXIS, 1, H);
  g.textBaseline = "middle"; g.textAlign = "right";
  g.save(); g.beginPath(); g.rect(0, top(), GUTTER, H); g.clip();
  for (const l of visibleLanes) {
    const y = laneY(l);
    if (y < top() - laneHeight || y > H + laneHeight) continue;
    const lit = cone && selected >= 0 && (onTheWay(selected) ? lane[origin[selected]] : lane[selected]) === l;
    g.font = `${lit ? 650 : l === WORLD ? 400 : 560} ${laneHeight < 34 ? 11 : 13}px ${fonts.sans}`;
    g.fillStyle = lit ? ink.accent : l === WORLD ? ink.faint : ink.ink;
    let name = laneName(l);
    while (name.length > 1 && g.measureText(name).width > GUTTER - 22) name = name.slice(0, -2) + "…";
    g.fillText(name, GUTTER - 12, y);
  }
  g.restore();
  if (strips) { g.font = "11px " + fonts.sans; g.fillStyle = ink.faint; g.textAlign = "right"; g.fillText("faults", GUTTER - 12, AXIS + 9); }
}
const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
function tickStep(span, room) {
  const raw = span / Math.max(2, room / 110), power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) || power * 10;
}
function label(time, step) {
  const [size, unit] = step >= 1e8 ? units[0] : step >= 1e5 ? units[1] : step >= 1e2 ? units[2] : units[3];
  if (size === 1e9) return (time / 1e9).toFixed(step < 1e9 ? 1 : 0) + " s";
  const digits = Math.max(0, Math.ceil(-Math.log10(step / size)));
  // Fine steps are told after the whole second they lie in.
  const whole = Math.floor(time / 1e9), rest = (time - whole * 1e9) / size;
  return `${whole > 0 ? `${whole} s + ` : ""}${rest.toFixed(Math.min(3, digits))} ${unit}`;
}
function drawAxis(g) {
  g.fillStyle = ink.panel; g.fillRect(0, 0, W, AXIS);
  g.fillStyle = ink.line; g.fillRect(0, AXIS - 1, W, 1);
  const step = tickStep(view.t1 - view.t0, W - GUTTER);
  g.font = "11px " + fonts.sans; g.textBaseline = "middle"; g.textAlign = "left";
  for (let t = Math.ceil(view.t0 / step) * step; t <= view.t1; t += step) {
    const x = px(t);
    if (t < 0 || x < GUTTER - 1) continue;
    g.fillStyle = ink.faint; g.fillRect(x, AXIS - 6, 1, 5);
    g.fillStyle = ink.grid; g.fillRect(x, AXIS, 1, 5);
    const text = label(t, step);
    g.fillStyle = ink.soft; if (x + 6 + g.measureText(text).width < W) g.fillText(text, x + 4, AXIS / 2);
  }
  const x = px(moment);
  if (x >= GUTTER && x <= W) { g.fillStyle = ink.accent; g.beginPath(); g.moveTo(x - 5, AXIS - 8); g.lineTo(x + 5, AXIS - 8); g.lineTo(x, AXIS); g.closePath(); g.fill(); }
  g.fillStyle = ink.panel; g.fillRect(0, 0, GUTTER, AXIS - 1);
}

// The overview is drawn once per filter and size; the window over it at every frame.
function drawOverview() {
  const { g, w, h } = fitCanvas(overview);
  const size = `${w}x${h}x${devicePixelRatio}`;
  if (whole || !backdrop || backdrop.size !== size) { backdrop = { size, canvas: paintOverview(w, h) }; whole = false; }
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.drawImage(backdrop.canvas, 0, 0);
  const scale = devicePixelRatio || 1;
  g.setTransform(scale, 0, 0, scale, 0, 0);
  const x0 = view.t0 / T_END * w, x1 = Math.max(x0 + 3, view.t1 / T_END * w);
  g.fillStyle = ink.panel; g.globalAlpha = .68;
  g.fillRect(0, 0, x0, h); g.fillRect(x1, 0, w, h);
  g.globalAlpha = 1; g.strokeStyle = ink.accent; g.lineWidth = 1.5;
  g.strokeRect(Math.max(.75, x0), .75, Math.min(w - .75, x1) - Math.max(.75, x0), h - 1.5);
  g.fillStyle = ink.accent; g.globalAlpha = .8; g.fillRect(moment / T_END * w - .5, 0, 1, h); g.globalAlpha = 1;
}
function paintOverview(w, h) {
  const scale = devicePixelRatio || 1, canvas = document.createElement("canvas");
  canvas.width = w * scale; canvas.height = h * scale;
  const g = canvas.getContext("2d");
  g.scale(scale, scale);
  g.fillStyle = ink.panel; g.fillRect(0, 0, w, h);
  const columns = Math.max(1, Math.round(w)), all = new Uint32Array(columns), lost = new Uint32Array(columns);
  const column = (t) => Math.min(columns - 1, Math.max(0, (t / T_END * columns) | 0));
  let most = 1;
  for (let i = 0; i < N; i++) {
    if (!shown[i]) continue;
    const c = column(at[i]), v = ++all[c];
    if (v > most) most = v;
    if (kind[i] === DROPPED) lost[c]++;
  }
  for (const b of bands) {
    const x = b.from / T_END * w;
    g.globalAlpha = b.colour === "fault" ? .12 : .03; g.fillStyle = ink[b.colour]; g.fillRect(x, 0, Math.max(1.5, (b.until - b.from) / T_END * w), h);
    g.globalAlpha = .9; g.fillRect(x, 1 + Math.min(b.row, 3) * 3, Math.max(1.5, (b.until - b.from) / T_END * w), 2);
  }
  g.globalAlpha = 1;
  const unit = (h - 16) / Math.log2(most + 1);
  for (let c = 0; c < columns; c++) {
    if (!all[c]) continue;
    const v = Math.max(1, Math.log2(all[c] + 1) * unit);
    g.fillStyle = ink.turn; g.globalAlpha = .75; g.fillRect(c, h - v, 1, v);
    if (lost[c]) { g.globalAlpha = 1; g.fillStyle = ink.dropped; g.fillRect(c, h - Math.max(2, Math.log2(lost[c] + 1) * unit), 1, Math.max(2, Math.log2(lost[c] + 1) * unit)); }
  }
  g.globalAlpha = 1;
  if (FIRST > 0) { const x = T_FIRST / T_END * w; g.fillStyle = ink.faint; g.font = "11px " + fonts.sans; g.textBaseline = "middle"; g.textAlign = "right"; if (x > 150) g.fillText(`${FIRST.toLocaleString("en")} earlier events not kept`, x - 6, h / 2); g.fillRect(x, 0, 1, h); }
  if (violation >= 0) { g.fillStyle = ink.violation; g.fillRect(Math.min(w - 2, at[violation] / T_END * w - 1), 0, 2, h); }
  return canvas;
}

function drawClock() {
  const i = lowerBound(moment + .5) - 1, flying = i >= 0 ? Math.max(0, inFlight[i]) : 0;
  const b = document.createElement("b");
  b.textContent = seconds(moment) + " s";
  $("clock").replaceChildren(b, `  ${flying.toLocaleString("en")} in flight`);
  const scrub = $("scrub"), value = Math.round(moment / T_END * 100000);
  if (Number(scrub.value) !== value) scrub.value = value;
  scrub.setAttribute("aria-valuetext", `${seconds(moment)} seconds`);
}

// ---- Selecting ------------------------------------------------------------------------------------------------------

function select(i, { show = true, link = true } = {}) {
  if (i < 0 || i >= N) {
    selected = -1; cone = null;
    if (link) history.replaceState(null, "", location.pathname + location.search);
  } else {
    selected = i; cone = coneOf(i); moment = at[i];
    if (show) { layout(); reveal(i); }
    if (link) history.replaceState(null, "", "#e=" + idOf(i));
  }
  describe();
  if (coneOnly) refilter(); else { lists(); redraw(); }
}

function button(text, action) {
  const b = document.createElement("button");
  b.type = "button"; b.textContent = text;
  b.addEventListener("click", action);
  return b;
}
function entryLink(i) {
  const b = button(`#${idOf(i)} ${placeOf(i)}: ${wordsOf(i)}`, () => select(i));
  b.className = "link";
  return b;
}
function elapsed(ns) {
  const size = Math.abs(ns);
  if (size >= 1e9) return (ns / 1e9).toFixed(3) + " s";
  if (size >= 1e6) return (ns / 1e6).toFixed(3) + " ms";
  if (size >= 1e3) return (ns / 1e3).toFixed(1) + " µs";
  return Math.round(ns) + " ns";
}
function describe() {
  const panel = $("detail");
  $("fit-cone").disabled = $("cone-only").disabled = selected < 0;
  if (selected < 0) {
    const p = document.createElement("p");
    p.className = "empty";
    p.textContent = N ? "Select an event: click it, or step with the arrow keys." : "Nothing was recorded.";
    panel.replaceChildren(p);
    return;
  }
  const i = selected, name = meta.kinds[kind[i]];
  const head = document.createElement("div"), what = document.createElement("p"), list = document.createElement("dl");
  head.className = "kind"; head.append(glyphCanvas(name), name);
  what.className = name === "violation" ? "what violation" : "what";
  what.textContent = wordsOf(i);
  const row = (term, ...content) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = term; dd.append(...content); list.append(dt, dd);
    return dd;
  };
  row("Event", `#${idOf(i)}`).className = "mono";
  row("Time", `${seconds(at[i], 9)} s`).className = "mono";
  if (violation >= 0 && i !== violation) row("", `${elapsed(Math.abs(at[violation] - at[i]))} ${i < violation ? "before" : "after"} the violation`);
  row(onTheWay(i) ? "Link" : "Node", longPlaceOf(i));
  if (origin[i] >= 0) fateOf(i, row);
  if (cause[i] >= 0) {
    const causes = [];
    forCauses(i, (c) => causes.push(c));
    row(i === violation ? "Seen during" : causes.length > 1 ? "Causes" : "Cause", ...some(causes));
  } else row("Cause", cause[i] === -2 ? "an event that was not kept" : i === violation ? "none: seen at the end of the run" : "none: the scenario's own");
  const effects = effectsOf(i);
  if (effects.length) row("Led to", ...some(effects));
  const actions = document.createElement("div");
  actions.className = "actions";
  if (cause[i] >= 0) actions.append(button("Go to its cause", () => select(cause[i])));
  actions.append(button(`Show ${cone.list.length.toLocaleString("en")} causes`, () => fit(cone.list)));
  panel.replaceChildren(head, what, list, actions);
}
function some(list) {
  const links = Array.from(list.slice(0, 6), entryLink);
  if (list.length > 6) { const more = document.createElement("span"); more.textContent = `and ${list.length - 6} more`; links.push(more); }
  return links;
}
function fateOf(i, row) {
  const o = origin[i], ends = [];
  const walk = (j) => { for (const e of effectsOf(j)) if (origin[e] === o) { if (isEnd[kind[e]]) ends.push(e); walk(e); } };
  walk(o);
  const words = ends.map((e) => (kind[e] === DELIVERED ? `delivered after ${elapsed(at[e] - at[o])}${via[e] & 1 ? ", damaged" : ""}${via[e] & 2 ? ", second copy" : ""}${via[e] & 4 ? ", held back" : ""}` : wordsOf(e).replace(/^.* is dropped/, "dropped")));
  row("Fate", words.length ? words.join("; ") : "still under way");
}

function step(direction) {
  if (!shownList.length) return;
  let j = selected >= 0 ? indexIn(shownList, selected) : indexIn(shownList, lowerBound(moment));
  if (direction > 0) j = selected >= 0 && shownList[j] === selected ? j + 1 : j;
  else j -= 1;
  if (j >= 0 && j < shownList.length) select(shownList[j]);
}
// The nearest event shown on the next lane up or down.
function stepLane(direction) {
  if (selected < 0) return;
  const row = laneAt[lane[selected]], t = at[selected];
  for (let r = row + direction; r >= 0 && r < visibleLanes.length; r += direction) {
    let best = -1;
    const j = indexIn(shownList, selected);
    for (let d = 0; d < 20000; d++) {
      const near = [shownList[j - d], shownList[j + d]].filter((i) => i !== undefined && lane[i] === visibleLanes[r]);
      if (near.length) { best = near.reduce((a, b) => (Math.abs(at[a] - t) <= Math.abs(at[b] - t) ? a : b)); break; }
    }
    if (best >= 0) return select(best);
  }
}

// What lies under a point: marks first, then lines; a second click takes the next of them.
function under(x, y) {
  if (x < GUTTER || y < top()) return [];
  const found = [], reach = 7;
  const from = lowerBound(timeAt(x - reach)), to = Math.min(lowerBound(timeAt(x + reach)), from + 40000);
  for (let i = from; i < to; i++) {
    if (!shown[i] || isFate[kind[i]]) continue;
    const [mx, my] = pointOf(i), distance = Math.hypot(mx - x, my - y);
    if (distance <= reach + (isLandmark[kind[i]] ? 4 : 0)) found.push([distance + weight(i), i]);
  }
  if (lowerBound(view.t1) - lowerBound(view.t0) <= 24000) {
    const begin = lowerBound(view.t0), end = Math.min(N, Math.max(lowerBound(view.t1 + longest), lowerBound(view.t1)), begin + 80000);
    for (let i = begin; i < end; i++) {
      if (!isEnd[kind[i]] || !shown[i] || origin[i] < 0 || laneAt[lane[origin[i]]] < 0) continue;
      const [x0, y0, x1, y1] = arrowPoints(i, origin[i], target[origin[i]]);
      const d = toSegment(x, y, x0, y0, x1, y1);
      if (d < 5) found.push([d + 20, i]);
    }
  }
  found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return [...new Set(found.map(([, i]) => i))];
}
const weight = (i) => ({ violation: -20, crash: -8, boot: -6, dropped: -3, event: -2, command: -2, message: -2, refused: -2, turn: 2, sent: 3 }[meta.kinds[kind[i]]] || 0);
function toSegment(x, y, x0, y0, x1, y1) {
  const dx = x1 - x0, dy = y1 - y0, l = dx * dx + dy * dy, s = l ? Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / l)) : 0;
  return Math.hypot(x - x0 - s * dx, y - y0 - s * dy);
}

// ---- Lists ----------------------------------------------------------------------------------------------------------

const ROW = 24, list = $("list"), space = $("list-space");
// Browsers bound the height of an element: very long lists are scrolled in proportion.
const MOST = 15e6;
const listed = () => (tab === "cone" ? (cone ? cone.list : new Int32Array(0)) : shownList);
function lists() {
  const items = listed();
  $("tab-cone").replaceChildren("Causal cone", small(cone ? cone.list.length : 0));
  $("tab-all").replaceChildren("Events shown", small(shownList.length));
  space.style.height = `${Math.min(MOST, items.length * ROW)}px`;
  if (selected >= 0) {
    const j = indexIn(items, selected), y = listTop(j, items.length);
    if (items[j] === selected && (y < list.scrollTop || y > list.scrollTop + list.clientHeight - ROW)) list.scrollTop = y - list.clientHeight / 2;
  }
  fillList();
}
function small(count) { const s = document.createElement("small"); s.textContent = count.toLocaleString("en"); return s; }
const squeeze = (count) => Math.max(1, (count * ROW - list.clientHeight) / Math.max(1, Math.min(MOST, count * ROW) - list.clientHeight));
const listTop = (j, count) => j * ROW / squeeze(count);
function fillList() {
  const items = listed(), factor = squeeze(items.length), first = Math.max(0, Math.floor(list.scrollTop * factor / ROW) - 4), last = Math.min(items.length, first + Math.ceil(list.clientHeight / ROW) + 9);
  const rows = [];
  for (let j = first; j < last; j++) {
    const i = items[j], row = document.createElement("div"), time = document.createElement("time"), node = document.createElement("b"), text = document.createElement("span"), dot = document.createElement("i");
    row.className = "item"; row.setAttribute("role", "option"); row.id = "row-" + idOf(i);
    row.setAttribute("aria-selected", String(i === selected));
    row.style.top = `${j * ROW - list.scrollTop * (factor - 1)}px`;
    time.textContent = seconds(at[i]); node.textContent = placeOf(i); text.textContent = text.title = wordsOf(i);
    dot.style.background = colourOf(kind[i]);
    row.append(time, dot, node, text);
    row.addEventListener("click", () => select(i));
    rows.push(row);
  }
  if (!items.length) { const none = document.createElement("p"); none.className = "none"; none.textContent = tab === "cone" ? "Select an event to see what it followed from." : "No event passes the filters."; rows.push(none); }
  space.replaceChildren(...rows);
  if (selected >= 0) list.setAttribute("aria-activedescendant", "row-" + idOf(selected)); else list.removeAttribute("aria-activedescendant");
}
function setTab(next) {
  tab = next;
  $("tab-cone").setAttribute("aria-selected", String(tab === "cone"));
  $("tab-all").setAttribute("aria-selected", String(tab === "all"));
  list.scrollTop = 0;
  lists();
}

// ---- Filters --------------------------------------------------------------------------------------------------------

const families = [
  ["Datagrams", ["sent", "delivered", "dropped", "duplicated", "damaged", "held", "waits", "injected", "refused"]],
  ["Application", ["command", "event", "message", "workload"]],
  ["Process", ["turn", "timer", "job", "job-done", "store", "store-done", "boot", "boot-failed", "crash", "pause", "suspend", "resume", "rebind"]],
  ["Scenario", ["fault", "fault-end", "backup", "adversary", "strike", "healed", "violation"]],
];
const perKind = new Uint32Array(meta.kinds.length), perLane = new Uint32Array(LANES);
for (let i = 0; i < N; i++) { perKind[kind[i]]++; perLane[lane[i]]++; }
function choices(popup, groups, table, counter, glyphs) {
  const boxes = [];
  const all = document.createElement("div");
  all.className = "all";
  const setAll = (on) => { for (const [box, index] of boxes) { box.checked = on; table[index] = on ? 1 : 0; } refilter(); };
  all.append(button("All", () => setAll(true)), button("None", () => setAll(false)));
  popup.append(all);
  for (const [title, items] of groups) {
    if (!items.length) continue;
    if (title) { const h = document.createElement("h3"); h.textContent = title; popup.append(h); }
    for (const [index, name] of items) {
      const row = document.createElement("label"), box = document.createElement("input");
      row.className = "row";
      box.type = "checkbox"; box.checked = true; box.dataset.name = name;
      box.addEventListener("change", () => { table[index] = box.checked ? 1 : 0; refilter(); });
      row.append(box);
      if (glyphs) row.append(glyphCanvas(name));
      row.append(name, small(counter[index]));
      popup.append(row);
      boxes.push([box, index]);
    }
  }
}
function buildFilters() {
  const known = new Set(families.flatMap(([, names]) => names));
  const groups = families.map(([title, names]) => [title, names.filter((n) => n in KIND).map((n) => [KIND[n], n])]);
  groups.push(["Other", meta.kinds.map((n, index) => [index, n]).filter(([, n]) => !known.has(n))]);
  choices($("kinds"), groups, kindOn, perKind, true);
  const lanes = [...meta.nodes.map((name, index) => [index, name])];
  if (perLane[WORLD]) lanes.push([WORLD, "world"]);
  choices($("nodes"), [["", lanes]], laneOn, perLane, false);
}
function counts() {
  const off = (table) => table.reduce((sum, on) => sum + (on ? 0 : 1), 0);
  const kindsOff = off(kindOn), lanesOff = off(laneOn);
  $("kinds-button").textContent = kindsOff ? `Kinds (${kindOn.length - kindsOff} of ${kindOn.length})` : "Kinds";
  $("nodes-button").textContent = lanesOff ? `Nodes (${LANES - lanesOff} of ${LANES})` : "Nodes";
}
function popups(open) {
  for (const name of ["kinds", "nodes"]) {
    const on = name === open;
    $(name).hidden = !on;
    $(name + "-button").setAttribute("aria-expanded", String(on));
  }
}

// Text is made entry by entry, a slice at a time, so that the page stays alive.
function search(query) {
  const run = ++searchRun;
  query = query.trim().toLowerCase();
  const jump = /^#(\d+)$/.exec(query);
  if (!query || jump) {
    searchMask = null;
    refilter();
    if (jump) { const i = Number(jump[1]) - FIRST; if (i >= 0 && i < N) select(i); }
    return;
  }
  const always = templateParts.map((parts) => parts.some((part, k) => k % 2 === 0 && part.toLowerCase().includes(query)));
  const nodeHit = Array.from({ length: LANES }, (_, l) => laneName(l).toLowerCase() === query);
  const kindHit = meta.kinds.map((name) => name === query);
  const mask = new Uint8Array(N);
  let i = 0;
  const slice = () => {
    if (run !== searchRun) return;
    const until = performance.now() + 24;
    while (i < N && performance.now() < until) {
      for (const stop = Math.min(N, i + 500); i < stop; i++) mask[i] = nodeHit[lane[i]] || kindHit[kind[i]] || always[template[i]] || wordsOf(i).toLowerCase().includes(query) ? 1 : 0;
    }
    if (i < N) { $("shown").textContent = `searching ${Math.floor(i / N * 100)} %`; setTimeout(slice); } else { searchMask = mask; refilter(); }
  };
  slice();
}

// ---- Playing --------------------------------------------------------------------------------------------------------

let lastFrame = 0;
function play(on) {
  playing = on;
  $("play").setAttribute("aria-pressed", String(on));
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  if (on) {
    if (moment >= T_END) moment = 0;
    lastFrame = 0;
    requestAnimationFrame(frame);
  }
  redraw();
}
function frame(now) {
  if (!playing) return;
  if (lastFrame) {
    const span = view.t1 - view.t0;
    moveTo(moment + span / 10000 * Math.min(100, now - lastFrame) * Number($("speed").value), true);
    if (moment >= T_END) return play(false);
  }
  lastFrame = now;
  requestAnimationFrame(frame);
}
function moveTo(time, follow) {
  moment = Math.min(T_END, Math.max(0, time));
  const span = view.t1 - view.t0;
  if (follow) { if (moment > view.t0 + span * .7 || moment < view.t0) setView(moment - span * .7, moment + span * .3); } else if (moment < view.t0 || moment > view.t1) setView(moment - span / 2, moment + span / 2);
  redraw();
}

// ---- Input ----------------------------------------------------------------------------------------------------------

function pointers() {
  let drag = null, clicks = { x: -99, y: -99, turn: 0 };
  const place = (event) => { const box = chart.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  chart.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    drag = { x, y, t0: view.t0, t1: view.t1, top: view.top, moved: false, scrub: y < AXIS && x > GUTTER };
    chart.setPointerCapture(event.pointerId);
    if (drag.scrub) moveTo(timeAt(x));
    tipFor(-1);
  });
  chart.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (drag) {
      if (drag.scrub) return moveTo(timeAt(Math.max(GUTTER, Math.min(W, x))));
      if (Math.hypot(x - drag.x, y - drag.y) > 4) drag.moved = true;
      if (drag.moved) {
        chart.classList.add("dragging");
        const per = (drag.t1 - drag.t0) / (W - GUTTER);
        view.top = drag.top - (y - drag.y);
        setView(drag.t0 - (x - drag.x) * per, drag.t1 - (x - drag.x) * per);
      }
      return;
    }
    const [i = -1] = under(x, y);
    chart.classList.toggle("over", i >= 0);
    tipFor(i, x, y);
  });
  chart.addEventListener("pointerup", (event) => {
    const [x, y] = place(event), was = drag;
    drag = null;
    chart.classList.remove("dragging");
    if (!was || was.moved || was.scrub) return;
    const found = under(x, y);
    const again = Math.hypot(clicks.x - x, clicks.y - y) < 4;
    clicks = { x, y, turn: again ? clicks.turn + 1 : 0 };
    if (found.length) select(found[clicks.turn % found.length], { show: false });
    else if (x > GUTTER && y > top()) { moment = timeAt(x); select(-1); }
  });
  chart.addEventListener("pointerleave", () => tipFor(-1));
  chart.addEventListener("dblclick", (event) => { const [x] = place(event); zoom(.4, x); });
  chart.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x] = place(event), unit = event.deltaMode === 1 ? 30 : 1;
    if (x < GUTTER || event.altKey) { view.top += event.deltaY * unit; redraw(); } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) * unit / 1200);
    else zoom(Math.exp(Math.max(-150, Math.min(150, event.deltaY * unit)) / 420), x);
  }, { passive: false });

  let over = null;
  const share = (event) => { const box = overview.getBoundingClientRect(); return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)); };
  overview.addEventListener("pointerdown", (event) => {
    const t = share(event) * T_END, span = view.t1 - view.t0;
    over = { offset: t >= view.t0 && t <= view.t1 && span < T_END * .95 ? t - (view.t0 + view.t1) / 2 : 0 };
    overview.setPointerCapture(event.pointerId);
    if (span > T_END * .95) moveTo(t); else setView(t - over.offset - span / 2, t - over.offset + span / 2);
  });
  overview.addEventListener("pointermove", (event) => {
    if (!over) return;
    const t = share(event) * T_END, span = view.t1 - view.t0;
    if (span > T_END * .95) moveTo(t); else setView(t - over.offset - span / 2, t - over.offset + span / 2);
  });
  overview.addEventListener("pointerup", () => { over = null; });
  overview.addEventListener("wheel", (event) => { event.preventDefault(); const t = share(event) * T_END, f = Math.exp(event.deltaY / 420); setView(t - (t - view.t0) * f, t + (view.t1 - t) * f); }, { passive: false });
}
function tipFor(i, x, y) {
  const tip = $("tip");
  if (hover !== i) { hover = i; redraw(); }
  if (i < 0) { tip.hidden = true; return; }
  const note = document.createElement("small");
  note.textContent = `#${idOf(i)}  ${seconds(at[i], 9)} s  ${longPlaceOf(i)}`;
  tip.replaceChildren(note, wordsOf(i));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, W - box.width - 6))}px`;
  tip.style.top = `${y + 18 + box.height > H ? y - box.height - 10 : y + 18}px`;
}

const keys = [
  ["← →", "previous, next event", null],
  ["↑ ↓", "nearest event on the lane above, below", null],
  ["p", "go to the cause", () => selected >= 0 && cause[selected] >= 0 && select(cause[selected])],
  ["n", "go to what it led to", () => { if (selected >= 0) { const e = effectsOf(selected); if (e.length) select(e[0]); } }],
  ["v", "go to the violation", () => toViolation()],
  ["c", "show the causal cone only", () => $("cone-only").click()],
  ["f", "fit the causal cone", () => cone && fit(cone.list)],
  ["0", "the whole run", () => fit(null)],
  ["+ −", "zoom in, out (or the wheel)", null],
  ["Shift ← →", "pan (or drag, or Shift and the wheel)", null],
  ["Space", "play, pause", () => play(!playing)],
  ["Home End", "first, last event", null],
  ["/", "search", () => $("search").focus()],
  ["t", "light, dark, as the system", () => keepTheme(themes[(themes.indexOf(theme) + 1) % 3])],
  ["Esc", "clear the selection, close", null],
  ["?", "this help", () => $("helpbox").showModal()],
];
function toViolation() { if (violation >= 0) { select(violation); } }
function keyboard() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("helpbox").open) return;
    const typing = event.target.closest("input[type=search], select, textarea");
    if (event.key === "Escape") {
      if (!$("kinds").hidden || !$("nodes").hidden) { popups(null); event.preventDefault(); } else if (typing) { typing.value = ""; search(""); typing.blur(); } else select(-1);
      return;
    }
    if (typing) return;
    const range = event.target.id === "scrub";
    const act = {
      ArrowLeft: () => (event.shiftKey ? pan(-.2) : step(-1)), ArrowRight: () => (event.shiftKey ? pan(.2) : step(1)),
      ArrowUp: () => stepLane(-1), ArrowDown: () => stepLane(1), "+": () => zoom(.6), "=": () => zoom(.6), "-": () => zoom(1 / .6),
      Home: () => shownList.length && select(shownList[0]), End: () => shownList.length && select(shownList[shownList.length - 1]),
      PageUp: () => { view.top -= H / 2; redraw(); }, PageDown: () => { view.top += H / 2; redraw(); },
      " ": () => play(!playing),
    }[event.key] || (keys.find(([key, , act]) => act && key === event.key) || [])[2];
    if (!act || (range && /^(Arrow|Home|End|Page)/.test(event.key))) return;
    if (event.key === " " && event.target.closest("button, input, [role=tab]")) return;
    event.preventDefault();
    act();
  });
}
function controls() {
  $("previous").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("play").onclick = () => play(!playing);
  $("zoom-in").onclick = () => zoom(.6);
  $("zoom-out").onclick = () => zoom(1 / .6);
  $("fit").onclick = () => fit(null);
  $("fit-cone").onclick = () => cone && fit(cone.list);
  $("to-violation").onclick = toViolation;
  $("cone-only").onclick = () => { if (selected < 0 && !coneOnly) return; coneOnly = !coneOnly; $("cone-only").setAttribute("aria-pressed", String(coneOnly)); refilter(); };
  $("theme").onclick = () => keepTheme(themes[(themes.indexOf(theme) + 1) % 3]);
  $("help").onclick = () => $("helpbox").showModal();
  $("tab-cone").onclick = () => setTab("cone");
  $("tab-all").onclick = () => setTab("all");
  for (const name of ["kinds", "nodes"]) $(name + "-button").onclick = () => popups($(name).hidden ? name : null);
  addEventListener("pointerdown", (event) => { if (!event.target.closest(".menu")) popups(null); });
  let typing = 0;
  $("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => search($("search").value), 120); });
  $("search").addEventListener("keydown", (event) => { if (event.key === "Enter") { clearTimeout(typing); search($("search").value); step(event.shiftKey ? -1 : 1); } });
  $("scrub").addEventListener("input", () => moveTo(Number($("scrub").value) / 100000 * T_END));
  list.addEventListener("scroll", fillList);
  addEventListener("resize", () => { redraw(true); lists(); });
  addEventListener("hashchange", fromHash);
  prefersDark.addEventListener("change", () => applyTheme(theme));
  const keyRows = keys.flatMap(([key, what]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    for (const one of key.split(" ")) { const kbd = document.createElement("kbd"); kbd.textContent = one; dt.append(kbd, " "); }
    dd.textContent = what;
    return [dt, dd];
  });
  $("keys").replaceChildren(...keyRows);
}
function fromHash() {
  const found = /[#&]e=(\d+)/.exec(location.hash);
  if (!found) return false;
  const i = Number(found[1]) - FIRST;
  if (i < 0 || i >= N) return false;
  if (i !== selected) select(i, { link: false });
  return true;
}

// ---- Opening --------------------------------------------------------------------------------------------------------

function headline() {
  $("title").textContent = meta.scenario;
  const badge = $("verdict");
  badge.textContent = meta.verdict;
  badge.classList.toggle("bad", meta.failed);
  const facts = [["seed", meta.seed], ["digest", meta.digest.slice(0, 16)], ["cipher", meta.cipher], ["simulated", seconds(meta.ended, 3) + " s"], ["events", N.toLocaleString("en") + (FIRST ? ` (the last of ${(FIRST + N).toLocaleString("en")})` : "")]];
  $("facts").replaceChildren(...facts.map(([term, text]) => {
    const div = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = term; dd.textContent = text;
    if (term === "digest") dd.title = meta.digest;
    div.append(dt, dd);
    return div;
  }));
  if (meta.checker) {
    $("failure").hidden = false;
    $("checker").textContent = meta.checker;
    $("because").textContent = meta.failure;
    $("to-violation").hidden = violation < 0;
  }
}
function firstView() {
  if (fromHash()) { const i = selected, few = 400; setView(at[Math.max(0, i - few)], at[i] + Math.max(1000, (at[i] - at[Math.max(0, i - few)]) * .25)); return; }
  if (violation < 0) return fit(null);
  select(violation, { show: false });
  if (cone.list.length < 2) setTab("all");
  // The stretch before the violation that still shows single events.
  const begin = Math.max(0, violation - 500), span = Math.max(at[violation] - at[begin], 1000);
  setView(at[violation] - span, at[violation] + span * .12);
}

// The list's column of names is as wide as the longest of them, within reason.
{
  const g = document.createElement("canvas").getContext("2d");
  g.font = "560 12px " + fonts.sans;
  const names = ["world", ...meta.nodes.slice(0, 200)];
  list.style.setProperty("--names", `${Math.ceil(Math.min(72, Math.max(...names.map((name) => g.measureText(name).width))) + 1)}px`);
}

const netsimTrace = (window.netsimTrace = {
  drawnMs: 0, count: N,
  get shown() { return shownList.length; },
  get selected() { return selected < 0 ? null : idOf(selected); },
  get cone() { return cone ? Array.from(cone.list, idOf) : []; },
  get view() { return { t0: view.t0, t1: view.t1, moment }; },
  get violation() { return violation < 0 ? null : idOf(violation); },
  select: (id) => select(id - FIRST), words: (id) => wordsOf(id - FIRST), point: (id) => pointOf(id - FIRST), find: (name) => { for (let i = 0; i < N; i++) if (meta.kinds[kind[i]] === name) return idOf(i); return null; },
});

let kept = null;
try { kept = localStorage.getItem("netsim-trace-theme"); } catch { /* a page from a file may keep nothing */ }
theme = themes.includes(kept) ? kept : "auto";
document.documentElement.dataset.theme = theme === "dark" || (theme === "auto" && prefersDark.matches) ? "dark" : "light";
readColours();
buildFilters();
controls();
pointers();
keyboard();
headline();
describe();
refilter();
{ const box = chart.parentElement.getBoundingClientRect(); W = box.width; H = box.height; layout(); }
applyTheme(theme);
firstView();
lists();
})();
