// The parts of the page that are no drawing: run by `node --test js/`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { duration } from "../dockermagic/notebook/static/card.js";
import { humanSize, nested, visible } from "./files/tree.js";

/** @param {string} path @param {string} kind @param {string} state @returns {any} */
const row = (path, kind = "file", state = "") => [path, kind, state, 1, "-rw-r--r--", 0, 0, "", 0, false];
const paths = (/** @type {any} */ top) => visible(top).map((one) => one.node?.path);

test("durations read as the rest of the card", () => {
  assert.deepEqual([0.04, 59.94, 59.96, 61, 3600, 7322, -1].map(duration), ["0.0s", "59.9s", "1m 00s", "1m 01s", "1h 00m", "2h 02m", "0.0s"]);
});

test("sizes read as the rest of the card", () => {
  assert.deepEqual([0, 999, 1000, 1536, 117_000_000, 2_000_000_000].map(humanSize), ["0B", "999B", "1kB", "1.54kB", "117MB", "2GB"]);
});

test("found paths become an open tree, folders first, with the folders on the way", () => {
  const top = nested([row("/b/file"), row("/a"), row("/b/dir", "directory"), row("/b/dir/x"), row("/b/dir/y", "file", "added")]);

  assert.deepEqual(paths(top), ["/b", "/b/dir", "/b/dir/x", "/b/dir/y", "/b/file", "/a"]);
  assert.equal(visible(top)[3].node?.state, "added");
  assert.deepEqual(visible(top).map((one) => one.at), [0, 0, 0, 1, 1, 1]);
});

test("a folder that is found after what is in it keeps its content", () => {
  assert.deepEqual(paths(nested([row("/a/b"), row("/a", "directory", "modified")])), ["/a", "/a/b"]);
});

test("nothing found is an empty tree", () => {
  assert.deepEqual(paths(nested([])), []);
});

test("a closed folder hides what is in it, and rows that are not here yet have a place", () => {
  const top = nested([row("/a/b"), row("/c")]);
  const folder = /** @type {any} */ (top.children?.[0]);
  folder.open = false;
  top.children?.push(undefined);

  assert.deepEqual(paths(top), ["/a", "/c", undefined]);
});
