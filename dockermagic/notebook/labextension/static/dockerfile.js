// How a Dockerfile is coloured, as a CodeMirror StreamParser: instructions, flags, variables, strings, comments in the
// midst of a continued line, the escape directive, and here-documents, which hold a script or a file and no instructions.

const INSTRUCTIONS = new Set(
  "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR".split(" "),
);
const WITH_HEREDOCS = new Set(["ADD", "COPY", "RUN"]);
const NAMED = new Set(["ARG", "ENV", "LABEL"]);
const DIRECTIVE = /^\s*#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(\S*)/;
const HEREDOC = /^<<(-?)(["']?)([A-Za-z_]\w*)\2/;
const VARIABLE = /^\$(?:\w+|\{[^}\s]*\}?)/;
const VARIABLE_OF_A_SHELL = /^\$(?:\w+|\{[^}]*\}?|[@*#?$!-])/;

/**
 * @typedef {{name: string, tabs: boolean, plain: boolean}} Heredoc
 * @typedef {{keyword: string, escape: string, top: boolean, goesOn: boolean, flags: boolean, begun: boolean,
 *   quote: string, waiting: Heredoc[]}} State
 */

/** @returns {State} */
const startState = () => ({
  keyword: "",
  escape: "\\",
  top: true,
  goesOn: false,
  flags: false,
  begun: false,
  quote: "",
  waiting: [],
});

/** A variable at the cursor. @param {any} stream @param {State} state */
const variable = (stream, state) => stream.match(state.keyword === "RUN" ? VARIABLE_OF_A_SHELL : VARIABLE);

/** The Dockerfile's own escape, or the shell's. @param {string} character @param {State} state */
const isEscape = (character, state) => character === state.escape || character === "\\";

/** The inside of quotes up to a variable, the closing quote or the end of the line. @param {any} stream @param {State} state */
const quoted = (stream, state) => {
  if (state.quote === '"' && variable(stream, state)) return "variableName.special";
  while (!stream.eol()) {
    const next = stream.next();
    if (next === state.quote) {
      state.quote = "";
      break;
    }
    if (isEscape(next, state) && state.quote === '"') stream.next();
    if (state.quote === '"' && stream.peek() === "$") break;
  }
  return "string";
};

/** A line of a here-document, or a part of it. @param {any} stream @param {State} state */
const within = (stream, state) => {
  const { name, tabs, plain } = state.waiting[0];
  if (stream.sol() && (tabs ? stream.string.replace(/^\t+/, "") : stream.string) === name) {
    stream.skipToEnd();
    state.waiting.shift();
    return "labelName";
  }
  if (state.keyword === "RUN" && stream.sol() && /^\s*#/.test(stream.string)) {
    stream.skipToEnd();
    return "comment";
  }
  if (!plain && variable(stream, state)) return "variableName.special";
  stream.next();
  stream.eatWhile(/[^$]/);
  return state.keyword === "RUN" ? null : "string";
};

/** What a new line begins with; undefined where it goes on like any other place. @param {any} stream @param {State} state */
const begin = (stream, state) => {
  const { string } = stream;
  if (/^\s*#/.test(string)) {
    const directive = state.top && !state.goesOn ? DIRECTIVE.exec(string) : null;
    stream.skipToEnd();
    if (!directive) {
      state.top = state.top && state.goesOn;
      return "comment";
    }
    if (directive[1].toLowerCase() === "escape" && /^[\\`]$/.test(directive[2])) state.escape = directive[2];
    return "meta";
  }
  if (!state.goesOn) {
    Object.assign(state, { keyword: "", quote: "", flags: false, begun: false });
    if (/^\s*[%!?]/.test(string)) {
      stream.skipToEnd();
      return "meta";
    }
  }
  state.goesOn = string.trimEnd().endsWith(state.escape);
};

/** @param {any} stream @param {State} state */
const token = (stream, state) => {
  if (state.waiting.length && state.begun === false) return within(stream, state);
  if (stream.sol()) {
    const style = begin(stream, state);
    if (style) return style;
  }
  const style = word(stream, state);
  // What follows a line that does not go on is the text of its here-documents.
  if (stream.eol() && state.waiting.length && !state.goesOn) state.begun = false;
  return style;
};

/** @param {any} stream @param {State} state */
const word = (stream, state) => {
  if (state.quote) return quoted(stream, state);
  if (stream.eatSpace()) return null;
  if (!state.keyword) {
    const name = (stream.match(/^\S+/) ?? [""])[0].toUpperCase();
    state.top = false;
    if (!INSTRUCTIONS.has(name)) {
      state.keyword = "?";
      return null;
    }
    if (name !== "ONBUILD") Object.assign(state, { keyword: name, flags: true });
    state.begun = true;
    return "keyword";
  }
  if (state.flags && stream.match(/^--[\w-]+/)) return "attributeName";
  const before = stream.string[stream.pos - 1] ?? " ";
  if (/\s/.test(before)) {
    state.flags &&= stream.peek() === state.escape;
    if (state.keyword === "FROM" && stream.match(/^as(?=\s)/i)) return "keyword";
    if (state.keyword === "HEALTHCHECK" && stream.match(/^(cmd|none)(?=\s|$)/i)) return "keyword";
    if (NAMED.has(state.keyword) && stream.match(/^[\w.-]+(?==)/)) return "propertyName";
  }
  const heredoc = WITH_HEREDOCS.has(state.keyword) && /[\s=]/.test(before) && stream.match(HEREDOC);
  if (heredoc) {
    state.waiting.push({ name: heredoc[3], tabs: Boolean(heredoc[1]), plain: Boolean(heredoc[2]) });
    return "labelName";
  }
  if (variable(stream, state)) return "variableName.special";
  if (state.keyword === "RUN" && stream.match(/^(?:&&|\|\|?|;;?|>>?|<)/)) return "operator";
  if (isEscape(stream.peek(), state)) {
    const ends = stream.next() === state.escape && /^\s*$/.test(stream.string.slice(stream.pos));
    if (!ends) stream.next();
    return ends ? "operator" : null;
  }
  if (/["']/.test(stream.peek())) {
    state.quote = stream.next();
    return "string";
  }
  stream.next();
  stream.eatWhile(/[^\s$"'\\`&|;<>=]/);
  return null;
};

export const parser = {
  name: "dockerfile",
  startState,
  copyState: (/** @type {State} */ state) => ({ ...state, waiting: [...state.waiting] }),
  token,
  languageData: { commentTokens: { line: "#" } },
};
