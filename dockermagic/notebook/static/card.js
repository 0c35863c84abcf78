// A card that Python draws. It sends the whole card as the trait `html`, and while something runs messages with the
// parts that changed and with new lines of output; this module puts them in place, keeps the clocks going, and asks for
// what is unfolded. All markup comes from Python, escaped there.

const KEPT_LINES = 1000;
const FOLDED = "details[data-name], details[data-tree]";

/** @typedef {{get(name: string): any, on(name: string, f: Function): void, off(name: string, f: Function): void, send(m: any): void}} Model */
/** @typedef {{lines: string[], rest: string, skipped: number, reset: boolean}} Log */
/** @typedef {{t: string, parts?: Record<string, string>, order?: string[], logs?: Record<string, Log>, now?: number, path?: string, start?: number, html?: string, text?: string}} Message */

/** Seconds as the rest of the card writes them. @param {number} seconds */
export function duration(seconds) {
  seconds = Math.max(0, seconds);
  if (seconds < 59.95) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
}

/** The path of a folded directory, from the names of those around it. @param {Element} details */
export function pathOf(details) {
  const names = [];
  for (let at = /** @type {Element | null} */ (details); at; at = at.parentElement) {
    if (at.hasAttribute("data-name")) names.unshift(at.getAttribute("data-name"));
    if (at.hasAttribute("data-tree")) return [at.getAttribute("data-tree")?.replace(/\/$/, ""), ...names].join("/") || "/";
  }
  return "/" + names.join("/");
}

class Card {
  /** @param {HTMLElement} root @param {Model} model */
  constructor(root, model) {
    this.root = root;
    this.model = model;
    this.offset = 0;
    /** @type {Map<string, string>} */
    this.applied = new Map();
    this.draw();
  }

  /** The whole card anew; what a person has unfolded stays so. */
  draw() {
    const open = new Set([...this.root.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
    this.root.innerHTML = this.model.get("html");
    this.applied.clear();
    for (const one of this.root.querySelectorAll("details:not([data-name], [data-tree]) > summary"))
      if (open.has(one.textContent)) /** @type {HTMLDetailsElement} */ (one.parentElement).open = true;
    this.tick();
  }

  tick() {
    for (const one of this.root.querySelectorAll(".dm-clock"))
      one.textContent = duration(Date.now() / 1000 - this.offset - Number(one.getAttribute("data-since")));
  }

  /** @param {Message} message */
  receive(message) {
    if (message.now) this.offset = Date.now() / 1000 - message.now;
    for (const [name, html] of Object.entries(message.parts ?? {})) this.part(name, html, message.order ?? []);
    for (const [name, log] of Object.entries(message.logs ?? {})) this.log(name, log);
    if (message.t === "list") this.listed(message);
    if (message.t === "stopping") clearTimeout(this.waiting);
    this.tick();
  }

  /** @param {string} name @returns {HTMLElement | null} */
  find(name) {
    return this.root.querySelector(`[data-part="${CSS.escape(name)}"]`);
  }

  /** @param {string} name @param {string} html @param {string[]} order */
  part(name, html, order) {
    if (this.applied.get(name) === html) return;
    this.applied.set(name, html);
    const old = this.find(name);
    if (!name.startsWith("step-")) {
      if (old) old.innerHTML = html;
      return;
    }
    const holder = document.createElement("tbody");
    holder.innerHTML = html;
    const row = /** @type {HTMLElement} */ (holder.firstElementChild);
    row.dataset.part = name;
    if (!html.includes('aria-label="running"')) this.root.querySelector(`[data-log="${CSS.escape(name)}"]`)?.remove();
    if (old) return old.replaceWith(row);
    const after = order.slice(0, order.indexOf(name)).reverse().map((one) => this.find(one)).find((one) => one?.matches("tr"));
    const below = after?.nextElementSibling;
    if (after) (below?.hasAttribute("data-log") ? below : after).after(row);
    else this.root.querySelector("tbody")?.prepend(row);
  }

  /** New lines of output; the view follows unless somebody scrolled up. @param {string} name @param {Log} log */
  log(name, log) {
    const pane = this.pane(name);
    if (!pane) return;
    const follows = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 30;
    if (log.reset) pane.replaceChildren();
    else if (pane.lastElementChild?.classList.contains("dm-rest")) pane.lastElementChild.remove();
    const fresh = document.createDocumentFragment();
    const add = (/** @type {string} */ html, /** @type {string} */ kind) => {
      const line = document.createElement("div");
      line.className = kind;
      line.innerHTML = html || "&#8203;";
      fresh.append(line);
    };
    if (log.skipped) add(`<em style="opacity:.7">… ${log.skipped.toLocaleString("en")} lines</em>`, "");
    for (const html of log.lines) add(html, "");
    if (log.rest) add(log.rest, "dm-rest");
    pane.append(fresh);
    while (pane.childElementCount > KEPT_LINES) pane.firstElementChild?.remove();
    if (follows) pane.scrollTop = pane.scrollHeight;
  }

  /** @param {string} name @returns {HTMLElement | null} */
  pane(name) {
    const known = this.root.querySelector(`[data-log="${CSS.escape(name)}"]`);
    if (known) return known.matches("pre") ? /** @type {HTMLElement} */ (known) : known.querySelector("pre");
    const row = this.find(name);
    if (!row) return null;
    const holder = document.createElement("tr");
    holder.dataset.log = name;
    holder.style.background = "transparent";
    const style = row.children[1]?.getAttribute("style") ?? "";
    holder.innerHTML = `<td style="${style};padding:0"></td><td class="dm-log" colspan="2" style="${style};padding:0 12px 8px"><pre tabindex="0" aria-label="output"></pre></td>`;
    const pane = /** @type {HTMLElement} */ (holder.querySelector("pre"));
    pane.style.cssText = "margin:0;padding:7px 10px;border-radius:6px;background:var(--dm-tint);color:inherit;font:12px/1.5 var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);white-space:pre-wrap;overflow-wrap:anywhere;text-align:left";
    row.after(holder);
    return pane;
  }

  /** @param {HTMLDetailsElement} details */
  opened(details) {
    if (!details.open || !details.matches(FOLDED) || details.querySelector(":scope > ul")) return;
    const list = document.createElement("ul");
    list.style.cssText = `list-style:none;margin:0;padding:0 0 0 ${details.hasAttribute("data-tree") ? 0 : 18}px`;
    list.innerHTML = '<li class="dm-loading">…</li>';
    details.append(list);
    const loading = list.firstElementChild;
    setTimeout(() => loading?.isConnected && (loading.textContent = "no answer: is the kernel still there?"), 8000);
    this.model.send({ t: "list", path: pathOf(details), start: 0 });
  }

  /** @param {Message} message */
  listed(message) {
    for (const details of this.root.querySelectorAll(FOLDED)) {
      if (pathOf(details) !== message.path) continue;
      const list = details.querySelector(":scope > ul");
      if (!list) return;
      list.querySelector(":scope > li:last-child > .dm-more, :scope > .dm-loading")?.closest("li")?.remove();
      list.insertAdjacentHTML("beforeend", message.html || '<li class="dm-loading">empty</li>');
    }
  }

  /** @param {Element} button */
  pressed(button) {
    if (button.classList.contains("dm-more")) {
      const details = button.closest(FOLDED);
      if (details) this.model.send({ t: "list", path: pathOf(details), start: Number(button.getAttribute("data-start")) });
      button.textContent = "…";
    } else if (button.hasAttribute("data-send")) {
      this.model.send({ t: button.getAttribute("data-send") });
      /** @type {HTMLButtonElement} */ (button).disabled = true;
      button.textContent = "stopping…";
      // A kernel without subshells hears of it only when the cell is done: then the front end's own button is the way.
      this.waiting = setTimeout(() => (button.textContent = "press ■ in the toolbar"), 2500);
    }
  }
}

export default {
  /** @param {{model: Model, el: HTMLElement}} context */
  render({ model, el }) {
    const root = document.createElement("div");
    root.className = "dm-root";
    el.append(root);
    const card = new Card(root, model);
    const draw = () => card.draw();
    const receive = (/** @type {Message} */ message) => card.receive(message);
    model.on("change:html", draw);
    model.on("msg:custom", receive);
    root.addEventListener("toggle", (event) => card.opened(/** @type {HTMLDetailsElement} */ (event.target)), true);
    root.addEventListener("click", (event) => {
      const button = /** @type {Element} */ (event.target).closest("button");
      if (button) card.pressed(button);
    });
    const clock = setInterval(() => card.tick(), 100);
    model.send({ t: "hello", keeps: Boolean(/** @type {any} */ (globalThis).dockermagicFallback) });
    return () => {
      clearInterval(clock);
      model.off("change:html", draw);
      model.off("msg:custom", receive);
    };
  },
};
