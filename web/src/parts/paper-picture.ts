// A page's copy for paper as one PNG. Browsers lay it out; here it is painted on a canvas as they laid it out, since our
// policy allows no data: or blob: pictures, which is how an SVG with HTML in it would have to be loaded.
// What is painted is what the style of paper uses: grounds, borders, round corners, cut overflow, text, canvases.

import { onPaper } from "./paper";

const RATIO = 2;
/** What browsers' canvases bear. */
const MOST_SIDE = 16_384;
const MOST_AREA = 100_000_000;

export async function picture(): Promise<Blob> {
  await document.fonts.ready;
  const paper = onPaper("picture", RATIO);
  try {
    const canvas = painted(paper);
    const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
    if (!blob) throw new Error("The browser could not write it.");
    return blob;
  } finally {
    paper.remove();
  }
}

function painted(paper: HTMLElement): HTMLCanvasElement {
  const { left, top, width, height } = paper.getBoundingClientRect();
  const ratio = Math.min(RATIO, MOST_SIDE / height, Math.sqrt(MOST_AREA / (width * height)));
  if (!(ratio >= 1)) throw new Error("The report is too long for one picture: show fewer rows, or save it as PDF.");
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const to = canvas.getContext("2d", { alpha: false });
  if (!to) throw new Error("The browser gave no canvas.");
  to.fillStyle = "#fff";
  to.fillRect(0, 0, canvas.width, canvas.height);
  to.scale(ratio, ratio);
  to.translate(-left, -top);
  to.imageSmoothingQuality = "high";
  to.textBaseline = "alphabetic";
  paint(to, paper);
  return canvas;
}

function paint(to: CanvasRenderingContext2D, element: Element): void {
  const style = getComputedStyle(element);
  if (style.display === "none") return;
  const box = element.getBoundingClientRect();
  to.save();
  ground(to, style, box);
  if (element instanceof HTMLCanvasElement) to.drawImage(element, box.x, box.y, box.width, box.height);
  if (style.overflowX !== "visible" && style.display !== "inline") {
    outline(to, style, box);
    to.clip();
  }
  for (const child of element.childNodes) {
    if (child instanceof Element) paint(to, child);
    else if (child instanceof Text) write(to, child, style);
  }
  to.restore();
}

const CLEAR = /^(transparent|rgba\(0, 0, 0, 0\))$/;
const SIDES = ["Top", "Right", "Bottom", "Left"] as const;

function ground(to: CanvasRenderingContext2D, style: CSSStyleDeclaration, box: DOMRect): void {
  if (!CLEAR.test(style.backgroundColor)) {
    outline(to, style, box);
    to.fillStyle = style.backgroundColor;
    to.fill();
  }
  const sides = SIDES.map((side) => ({
    width: style[`border${side}Style`] === "none" ? 0 : Number.parseFloat(style[`border${side}Width`]), colour: style[`border${side}Color`],
  }));
  const [top] = sides;
  if (top && sides.every((side) => side.width === top.width && side.colour === top.colour)) {
    if (!top.width) return;
    outline(to, style, box, top.width / 2);
    to.lineWidth = top.width;
    to.strokeStyle = top.colour;
    to.stroke();
    return;
  }
  const places = [
    (width: number) => [box.left, box.top, box.width, width], (width: number) => [box.right - width, box.top, width, box.height],
    (width: number) => [box.left, box.bottom - width, box.width, width], (width: number) => [box.left, box.top, width, box.height],
  ] as const;
  for (const [index, side] of sides.entries()) {
    const [x = 0, y = 0, width = 0, height = 0] = places[index]?.(side.width) ?? [];
    to.fillStyle = side.colour;
    to.fillRect(x, y, width, height);
  }
}

function outline(to: CanvasRenderingContext2D, style: CSSStyleDeclaration, box: DOMRect, inset = 0): void {
  const said = style.borderTopLeftRadius;
  const radius = said.endsWith("%") ? (Number.parseFloat(said) / 100) * box.width : Number.parseFloat(said);
  to.beginPath();
  to.roundRect(box.x + inset, box.y + inset, Math.max(0, box.width - 2 * inset), Math.max(0, box.height - 2 * inset),
    Math.max(0, Math.min(radius, box.width / 2, box.height / 2) - inset));
}

/** Word by word, each where the browser put it; a word in several lines by its letters. */
function write(to: CanvasRenderingContext2D, node: Text, style: CSSStyleDeclaration): void {
  to.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  to.letterSpacing = style.letterSpacing === "normal" ? "0px" : style.letterSpacing;
  to.fillStyle = style.color;
  const atEnd = style.textAlign === "right" || style.textAlign === "end";
  to.textAlign = atEnd ? "right" : "left";
  const range = document.createRange();
  const rectsOf = (start: number, end: number) => {
    range.setStart(node, start);
    range.setEnd(node, end);
    return [...range.getClientRects()].filter((rect) => rect.width > 0);
  };
  for (const { 0: found, index } of node.data.matchAll(/\S+/g)) {
    const rects = rectsOf(index, index + found.length);
    const runs = rects.length > 1 ? linesOf(found, index, rectsOf) : rects.map((rect) => ({ text: found, left: rect.left, right: rect.right, rect }));
    for (const { text, left, right, rect } of runs) {
      const { fontBoundingBoxAscent: above, fontBoundingBoxDescent: below } = to.measureText(text);
      to.fillText(text, atEnd ? right : left, rect.top + (rect.height - above - below) / 2 + above);
    }
  }
}

type Run = { text: string; left: number; right: number; rect: DOMRect };

function linesOf(word: string, index: number, rectsOf: (start: number, end: number) => DOMRect[]): Run[] {
  const runs: Run[] = [];
  let at = index;
  for (const letter of word) {
    const [rect] = rectsOf(at, at + letter.length);
    at += letter.length;
    const run = runs[runs.length - 1];
    if (!rect) {
      if (run) run.text += letter; // a mark that takes no place of its own
    } else if (run && Math.abs(run.rect.top - rect.top) < rect.height / 2) {
      run.text += letter;
      run.left = Math.min(run.left, rect.left);
      run.right = Math.max(run.right, rect.right);
    } else {
      runs.push({ text: letter, left: rect.left, right: rect.right, rect });
    }
  }
  return runs;
}
