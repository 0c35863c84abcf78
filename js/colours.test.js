// How Dockerfiles are coloured: run by `node --test js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parser } from "../dockermagic/notebook/labextension/static/dockerfile.js";

/** As much of CodeMirror's StringStream as is used. */
class Line {
  /** @param {string} string */
  constructor(string) {
    this.string = string;
    this.pos = 0;
  }
  sol = () => this.pos === 0;
  eol = () => this.pos >= this.string.length;
  peek = () => this.string[this.pos];
  next = () => this.string[this.pos++];
  skipToEnd = () => void (this.pos = this.string.length);
  eatSpace = () => this.match(/^\s+/) !== null;
  eatWhile = (/** @type {RegExp} */ known) => {
    while (!this.eol() && known.test(this.peek())) this.pos++;
  };
  match = (/** @type {RegExp} */ wanted) => {
    const found = this.string.slice(this.pos).match(wanted);
    this.pos += found?.[0].length ?? 0;
    return found;
  };
}

/** The coloured parts of a text, neighbours of one colour together. @param {string} text */
const coloured = (text) => {
  const state = parser.startState();
  /** @type {[string, string][]} */
  const parts = [];
  for (const string of text.split("\n")) {
    const line = new Line(string);
    let last = "";
    while (!line.eol()) {
      const begin = line.pos;
      const style = parser.token(line, state) ?? "";
      assert.ok(line.pos > begin, `no way on in ${string}`);
      const piece = string.slice(begin, line.pos);
      if (style && style === last) parts[parts.length - 1][1] += piece;
      else if (style) parts.push([style, piece]);
      last = style;
    }
  }
  return parts.map(([style, piece]) => `${style.replace("variableName.special", "variable")} ${piece}`);
};

test("instructions, flags, names, variables, strings and operators", () => {
  assert.deepEqual(coloured("FROM --platform=$P a AS b"), ["keyword FROM", "attributeName --platform", "variable $P", "keyword AS"]);
  assert.deepEqual(coloured('ENV A="b $C" D=\'$E\''), [
    ...["keyword ENV", "propertyName A", 'string "b ', "variable $C", 'string "', "propertyName D", "string '$E'"],
  ]);
  assert.deepEqual(coloured("RUN it\\'s ${X} && b"), ["keyword RUN", "variable ${X}", "operator &&"]);
  assert.deepEqual(coloured("onbuild copy from b"), ["keyword onbuild", "keyword copy"]);
  assert.deepEqual(coloured("RUM a $B\n%docker images"), ["variable $B", "meta %docker images"]);
});

test("an instruction goes on behind its escape character, past comments", () => {
  assert.deepEqual(coloured("RUN a \\\n  # c\n  FROM\nFROM b"), ["keyword RUN", "operator \\", "comment   # c", "keyword FROM"]);
  assert.deepEqual(coloured("# escape=`\n# c\nRUN a `\nRUN\nRUN c:\\\nRUN d"), [
    ...["meta # escape=`", "comment # c", "keyword RUN", "operator `", "keyword RUN", "keyword RUN"],
  ]);
  assert.deepEqual(coloured("# c\n# escape=`"), ["comment # c", "comment # escape=`"]);
});

test("a here-document holds no instructions", () => {
  assert.deepEqual(coloured("COPY <<A <<-'B' /\nFROM $x\nA\nRUN $y\n\tB\nRUN <<C\n# c\nFROM $1\nC\nUSER a"), [
    ...["keyword COPY", "labelName <<A", "labelName <<-'B'", "string FROM ", "variable $x", "labelName A", "string RUN $y"],
    ...["labelName \tB", "keyword RUN", "labelName <<C", "comment # c", "variable $1", "labelName C", "keyword USER"],
  ]);
});
