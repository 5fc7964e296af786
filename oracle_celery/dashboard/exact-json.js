/**
 * JSON read without loss, for people to look at.
 *
 * JSON.parse rounds integers beyond 2^53 and long decimals, and plain objects move keys that look like numbers to the
 * front. Here objects become Maps (order kept, "__proto__" a key like any other) and a number that JavaScript cannot
 * hold exactly as it was written becomes an `ExactNumber` with its text.
 */

export class ExactNumber {
  constructor(text) {
    this.text = text;
  }

  toString() {
    return this.text;
  }
}

/** @param {string} text @returns {null | boolean | number | string | ExactNumber | Array | Map} */
export function parseExact(text) {
  const reader = new Reader(text);
  const value = reader.value();
  reader.end();
  return value;
}

/**
 * A value as lines of tokens: `{kind, text}` with kind key, string, number, word (true, false, null) or mark.
 * An empty container and a short list of plain values stay on one line.
 */
export function tokens(value, indent = 0) {
  if (value instanceof Map) return containerTokens("{", "}", [...value], indent, memberTokens);
  if (Array.isArray(value)) return containerTokens("[", "]", value, indent, tokens);
  if (typeof value === "string") return [{ kind: "string", text: JSON.stringify(value) }];
  if (typeof value === "number" || value instanceof ExactNumber) return [{ kind: "number", text: String(value) }];
  return [{ kind: "word", text: String(value) }];
}

/** @returns {string} the value as indented JSON, numbers as they were written */
export function formatExact(value) {
  return tokens(value)
    .map((token) => token.text)
    .join("");
}

const INDENT = "  ";
const LINE_WIDTH = 60; // characters that a list of plain values may take on one line

function containerTokens(open, close, items, indent, itemTokens) {
  if (items.length === 0) return [mark(open + close)];
  const inner = items.map((item) => itemTokens(item, indent + 1));
  const isPlain = open === "[" && items.every((item) => !(item instanceof Map) && !Array.isArray(item));
  const width = inner.flat().reduce((sum, token) => sum + token.text.length + 2, 0);
  const isShort = isPlain && width <= LINE_WIDTH;
  const separator = isShort ? ", " : `,\n${INDENT.repeat(indent + 1)}`;
  const result = [mark(isShort ? open : `${open}\n${INDENT.repeat(indent + 1)}`)];
  inner.forEach((item, at) => result.push(...(at > 0 ? [mark(separator)] : []), ...item));
  result.push(mark(isShort ? close : `\n${INDENT.repeat(indent)}${close}`));
  return result;
}

function memberTokens([key, value], indent) {
  return [{ kind: "key", text: JSON.stringify(key) }, mark(": "), ...tokens(value, indent)];
}

function mark(text) {
  return { kind: "mark", text };
}

const STRING = /"[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\u0000-\u001f]*)*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /true|false|null/y;
const SPACE = /[ \t\n\r]*/y;
const WORDS = { true: true, false: false, null: null };

class Reader {
  #text;
  #at = 0;

  constructor(text) {
    this.#text = text;
  }

  value() {
    this.#skip();
    const first = this.#text[this.#at];
    if (first === "{") return this.#object();
    if (first === "[") return this.#array();
    if (first === '"') return this.#string();
    const word = this.#take(WORD);
    return word === null ? this.#number() : WORDS[word];
  }

  end() {
    this.#skip();
    if (this.#at < this.#text.length) this.#fail();
  }

  #object() {
    const members = new Map();
    this.#items("}", () => {
      this.#skip();
      const key = this.#string();
      this.#expect(":");
      members.set(key, this.value());
    });
    return members;
  }

  #array() {
    const items = [];
    this.#items("]", () => items.push(this.value()));
    return items;
  }

  #items(close, readItem) {
    this.#at += 1;
    this.#skip();
    if (this.#text[this.#at] === close) {
      this.#at += 1;
      return;
    }
    for (;;) {
      readItem();
      this.#skip();
      const next = this.#text[this.#at];
      if (next !== "," && next !== close) this.#fail();
      this.#at += 1;
      if (next === close) return;
    }
  }

  #string() {
    const text = this.#take(STRING);
    return text === null ? this.#fail() : JSON.parse(text);
  }

  #number() {
    const text = this.#take(NUMBER);
    if (text === null) return this.#fail();
    const number = Number(text);
    return String(number) === text ? number : new ExactNumber(text);
  }

  #expect(character) {
    this.#skip();
    if (this.#text[this.#at] !== character) this.#fail();
    this.#at += 1;
  }

  #skip() {
    this.#take(SPACE);
  }

  #take(pattern) {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return null;
    this.#at += found[0].length;
    return found[0];
  }

  #fail() {
    throw new SyntaxError(`Not JSON at character ${this.#at}`);
  }
}
