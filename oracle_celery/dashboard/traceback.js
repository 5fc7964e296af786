/**
 * A Python traceback in parts: frames of the project, and runs of frames of libraries that may be folded. Pure.
 *
 * Joined, the parts are the traceback to the character. Whatever is no frame (the errors, their causes, notes) is told as
 * it is: text that does not look like a traceback is one part.
 */

/** @typedef {{kind: "text" | "frame" | "library", text: string, count?: number, packages?: string[]}} Part */

/** Fewer frames in a row are not worth folding. */
const FOLDED_FRAMES = 2;

const FRAME = /^\s*(?:\|\s+)*File "([^"]*)", line \d+(?:, in .*)?$/;
const LIBRARIES = [
  /(?:^|[\\/])(?:site|dist)-packages[\\/]([^\\/]+)/,
  /(?:^|[\\/])lib(?:64)?[\\/]python\d[^\\/]*[\\/]([^\\/]+)/,
  /^<frozen ([^>.]+)/,
];

/** @param {string} traceback @returns {Part[]} */
export function tracebackParts(traceback) {
  const parts = [];
  for (const block of blocks(traceback)) {
    const last = parts.at(-1);
    if (last?.kind === block.kind && block.kind !== "frame") {
      last.text += block.text;
      if (block.kind === "library") {
        last.count += 1;
        if (!last.packages.includes(block.package)) last.packages.push(block.package);
      }
    } else if (block.kind === "library") {
      parts.push({ kind: "library", text: block.text, count: 1, packages: [block.package] });
    } else {
      parts.push(block);
    }
  }
  return parts.map((part) =>
    part.kind === "library" && part.count < FOLDED_FRAMES ? { kind: "frame", text: part.text } : part,
  );
}

/** A frame is its line and the deeper ones after it. */
function blocks(traceback) {
  const found = [];
  let depth = -1; // of the frame that goes on
  for (const line of traceback.match(/[^\n]*\n|[^\n]+$/g) ?? []) {
    const indent = line.search(/[^\s|]/);
    const frame = FRAME.exec(line.trimEnd());
    if (frame !== null) {
      const name = libraryOf(frame[1]);
      found.push(name === null ? { kind: "frame", text: line } : { kind: "library", text: line, package: name });
      depth = indent;
    } else if (depth >= 0 && indent > depth) {
      found.at(-1).text += line;
    } else {
      depth = -1;
      if (found.at(-1)?.kind === "text") found.at(-1).text += line;
      else found.push({ kind: "text", text: line });
    }
  }
  return found;
}

function libraryOf(path) {
  const found = LIBRARIES.map((pattern) => pattern.exec(path)).find((match) => match !== null);
  return found ? found[1].replace(/\.pyc?$/, "") : null;
}
