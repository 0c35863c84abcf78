// A terminal in a card: keys and the window's size go to Python, output comes in pieces and is acknowledged when it is
// on the screen, so that a process that writes faster than a page can draw waits.

import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import css from "@xterm/xterm/css/xterm.css";

/** @typedef {import("../../dockermagic/notebook/static/card.js").Channel} Channel */

const ACKNOWLEDGED = 256 * 1024;
const CSS = `
.dm-terminal { display: flow-root; }
.dm-ends { display: flex; gap: 8px; align-items: center; padding: 6px 0; font-size: 12px; color: var(--dm-soft); }
.dm-ends > span { flex: 1; }
.dm-screen { height: 340px; padding: 6px 0 6px 8px; border-radius: 6px; background: var(--dm-screen); resize: vertical; overflow: hidden; min-height: 80px; box-sizing: border-box; }
.dm-screen .xterm { height: 100%; }
.dm-screen .xterm .xterm-viewport { background-color: transparent; }
`;
const DARK = { background: "#15181d", foreground: "#e4e7ec", cursor: "#e4e7ec", cursorAccent: "#15181d", selectionBackground: "#4b5b7a" };
const LIGHT = {
  background: "#f6f7f9", foreground: "#1d2430", cursor: "#1d2430", cursorAccent: "#f6f7f9", selectionBackground: "#b9cdf2",
  black: "#1d2430", red: "#b3261e", green: "#1b6e3c", yellow: "#7a5200", blue: "#1d5fbf", magenta: "#8a3fa8", cyan: "#0f6f7c", white: "#5b6472",
  brightBlack: "#5b6472", brightRed: "#b3261e", brightGreen: "#1b6e3c", brightYellow: "#7a5200", brightBlue: "#1d5fbf", brightMagenta: "#8a3fa8", brightCyan: "#0f6f7c", brightWhite: "#3b4452",
};

/** Whether the page around is dark: its own text is light. @param {Element} element */
function isDark(element) {
  const [red, green, blue] = (getComputedStyle(element).color.match(/[\d.]+/g) ?? ["0", "0", "0"]).map(Number);
  return 3 * red + 6 * green + blue > 1275;
}

/** @param {HTMLElement} root @param {Channel} channel @param {{of?: string, title?: string, opens?: boolean}} options */
export function mount(root, channel, options) {
  const id = crypto.randomUUID?.() ?? String(Math.random());
  const style = document.createElement("style");
  style.textContent = css + CSS;
  const place = document.createElement("div");
  place.className = "dm-terminal";
  place.dataset.lmSuppressShortcuts = "true";
  const header = document.createElement("div");
  const words = document.createElement("span");
  words.setAttribute("role", "status");
  words.textContent = options.title ?? "";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "dm-button";
  button.textContent = "end";
  header.className = "dm-ends";
  header.append(words, button);
  const screen = document.createElement("div");
  screen.className = "dm-screen";
  place.append(header, screen);
  root.append(style, place);

  const fontFamily = getComputedStyle(place).getPropertyValue("--jp-code-font-family") || "ui-monospace, Menlo, Consolas, monospace";
  const terminal = new Terminal({ fontSize: 13, fontFamily, scrollback: 5000, minimumContrastRatio: 4.5, cursorBlink: true });
  const dress = () => {
    const theme = isDark(place) ? DARK : LIGHT;
    screen.style.setProperty("--dm-screen", theme.background);
    terminal.options.theme = theme;
  };
  dress();
  const dressed = new MutationObserver(dress);
  dressed.observe(document.body, { attributes: true });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(screen);
  fit.fit();
  // Where something is selected Ctrl+C copies it, and Ctrl+V pastes: both are the browser's then.
  terminal.attachCustomKeyEventHandler((event) => {
    const key = event.key.toLowerCase();
    if (!event.ctrlKey || event.altKey) return true;
    if (key === "v") return false;
    if (key === "c" && terminal.hasSelection()) {
      if (event.type === "keydown") navigator.clipboard?.writeText(terminal.getSelection());
      terminal.clearSelection();
      event.preventDefault();
      return false;
    }
    return !(event.shiftKey && key === "c");
  });

  let shown = 0;
  let over = false;
  let replayed = 0;
  const send = (/** @type {string} */ t, /** @type {object} */ more) => !over && channel.send({ t: `terminal.${t}`, of: id, ...more });
  const ended = (/** @type {string} */ text) => {
    over = true;
    words.textContent = text;
    button.hidden = true;
    terminal.options.cursorBlink = false;
    terminal.options.disableStdin = true;
  };
  const deaf = channel.listen(`terminal.${id}`, (message, buffers) => {
    for (const one of buffers) {
      const bytes = new Uint8Array(one.buffer, one.byteOffset, one.byteLength);
      if (message.again) replayed++;
      terminal.write(bytes, () => {
        if (message.again) return void replayed--;
        shown += bytes.length;
        if (shown < ACKNOWLEDGED && !over) return;
        send("shown", { count: shown });
        shown = 0;
      });
    }
    if (message.moved) ended("goes on where it was opened last");
    if (message.code !== undefined) ended(`${options.title ? `${options.title}: ` : ""}ended with exit code ${message.code}`);
  });
  // What was asked of the terminal once, where its cursor is, say, was answered then.
  terminal.onData((text) => replayed || send("keys", { text }));
  terminal.onBinary((text) => replayed || send("keys", { text, binary: true }));
  terminal.onResize(({ rows, cols }) => send("size", { rows, columns: cols }));
  button.addEventListener("click", () => send("end", {}));
  const resized = new ResizeObserver(() => screen.clientHeight && fit.fit());
  resized.observe(screen);
  channel.ask("terminal.open", { ...options, terminal: id, rows: terminal.rows, columns: terminal.cols }).then(
    // What has the keys is to be seen; a page that was loaded again keeps its place.
    ({ value: begins }) => begins && (terminal.focus(), place.scrollIntoView({ block: "nearest" })),
    (error) => ended(error.message),
  );
  return () => {
    send("end", {});
    deaf();
    resized.disconnect();
    dressed.disconnect();
    terminal.dispose();
    root.replaceChildren();
  };
}
