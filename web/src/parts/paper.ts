// A page as it looks on paper: a copy of what is shown, in light colours, without what only a screen needs. Printing and
// the picture both show this copy, so that they look the same and nothing moves on the page that stays behind.
// Rules:
// - The copy is made in one go (`beforeprint` waits for nobody). What is loaded when it comes into sight is loaded before:
//   by `complete`, which the buttons and the keys for printing ask first.
// - What was chosen in a switch, a list or a field stands there as a word; what was unfolded stays so.
// - Charts are drawn anew at the paper's width; the ones on the screen are left alone.

import { allInSight } from "../lazy";

export type Colours = (name: string) => string;
export type Size = { width: number; height: number; ratio: number };
type Draw = (colours: Colours, size: Size) => HTMLCanvasElement;

/** Place of a chart → how it is drawn once more. */
export const charts = new Map<Element, Draw>();

/** Between the margins of A4, in CSS pixels; the canvas fills the paper's width, whatever it is. */
const WIDTH = 690;
const HEIGHT = 165;
const TALL = 250;
const PRINT_RATIO = 3;
const WITHIN_MS = 15_000;
const PRINTS_WITHIN_MS = 8_000;
const LOOK_MS = 40;
const LONGEST = 300;
/** More lines than that are broken over pages rather than pushed to the next one. */
const WHOLE = 12;
const LINES = "tbody tr, .links > li, .events > li";
const DROPPED = "nav, dialog, button, summary, script, input, select, progress, .status, .export, .picker, .hidden, .not-on-paper";

export function complete(within_ms = WITHIN_MS): Promise<void> {
  allInSight.value = true;
  const until = performance.now() + within_ms;
  return new Promise<void>((done, failed) => {
    const look = () => {
      const main = document.querySelector("main");
      const missing = !main || main.querySelector(".unseen, .spinner")
        || [...main.querySelectorAll(".chart")].some((place) => !charts.has(place));
      if (main?.querySelector(".state.bad")) failed(new Error("A part of this page could not be loaded."));
      else if (!missing) done();
      else if (performance.now() > until) failed(new Error("A part of this page did not come in time."));
      else setTimeout(look, LOOK_MS);
    };
    look();
  }).finally(() => { allInSight.value = false; });
}

/** The copy, put into the page; `remove()` it afterwards. */
export function onPaper(kind: "print" | "picture", ratio: number): HTMLElement {
  const paper = document.createElement("div");
  paper.className = `paper ${kind}`;
  // A picture's copy stands beside the screen for a moment: nobody gets there or hears of it.
  paper.inert = kind === "picture";
  document.body.append(paper);
  try {
    const main = document.querySelector("main");
    if (main) paper.append(...copyOf(main, paper, ratio).childNodes);
  } catch (error) {
    paper.remove(); // without a copy the page itself is printed
    throw error;
  }
  return paper;
}

function copyOf(main: HTMLElement, paper: HTMLElement, ratio: number): HTMLElement {
  const copy = main.cloneNode(true) as HTMLElement;
  pairs<HTMLElement>(main, copy, ".chart", (place, twin) => twin.replaceChildren(...drawn(place, paper, ratio)));
  pairs<HTMLFieldSetElement>(main, copy, ".switch", (field, twin) => twin.replaceWith(word(textOf(field.querySelector("input:checked + span")))));
  pairs<HTMLSelectElement>(main, copy, "select", (field, twin) => chosen(twin, field.value && (field.selectedOptions[0]?.text ?? "")));
  pairs<HTMLInputElement>(main, copy, "input:not([type=radio])", (field, twin) => chosen(twin, field.type === "password" ? "" : field.value));
  for (const details of copy.querySelectorAll("details")) {
    if (details.open || details.classList.contains("whole")) details.replaceWith(...details.childNodes);
    else details.remove();
  }
  for (const one of copy.querySelectorAll(DROPPED)) one.remove();
  for (const one of copy.querySelectorAll(".cut, .wrap")) {
    if (textOf(one).length > LONGEST) one.textContent = `${textOf(one).slice(0, LONGEST)}…`;
  }
  for (const link of copy.querySelectorAll("a")) {
    if (link.origin !== location.origin && !textOf(link).includes(link.host)) link.append(` (${link.href.slice(0, LONGEST)})`);
  }
  for (const one of copy.querySelectorAll("[id], [tabindex]")) {
    one.removeAttribute("id");
    one.removeAttribute("tabindex");
  }
  for (const card of copy.querySelectorAll(".card")) card.classList.toggle("long", card.querySelectorAll(LINES).length > WHOLE);
  const head = copy.querySelector(".paper-org");
  if (head) copy.prepend(head);
  return copy;
}

function pairs<E extends Element>(main: HTMLElement, copy: HTMLElement, selector: string, change: (one: E, twin: E) => void): void {
  const twins = [...copy.querySelectorAll<E>(selector)];
  for (const [index, one] of [...main.querySelectorAll<E>(selector)].entries()) {
    const twin = twins[index];
    if (twin) change(one, twin);
  }
}

function chosen(twin: Element, text: string): void {
  if (text) twin.replaceWith(word(text));
  else (twin.closest(".filter, .select, .copy") ?? twin).remove();
}

function word(text: string): HTMLElement {
  const made = document.createElement("span");
  made.className = "chosen";
  made.textContent = text;
  return made;
}

function textOf(element: Element | null): string {
  return element?.textContent ?? "";
}

function drawn(place: HTMLElement, paper: HTMLElement, ratio: number): HTMLElement[] {
  const draw = charts.get(place);
  const style = getComputedStyle(paper);
  const height = place.classList.contains("tall") ? TALL : HEIGHT;
  try {
    if (!draw) throw new Error("nothing drew it");
    return [draw((name) => style.getPropertyValue(`--${name}`).trim(), { width: WIDTH, height, ratio })];
  } catch (error) {
    if (paper.inert) throw new Error("A chart could not be drawn.", { cause: error });
    return [word("This chart could not be drawn.")];
  }
}

export async function printed(): Promise<void> {
  // What could not be loaded says so on the paper, too.
  await complete(PRINTS_WITHIN_MS).catch(() => undefined);
  print();
}

/** For every page: what the browser prints is the copy. */
export function startPaper(): void {
  let paper: HTMLElement | null = null;
  addEventListener("beforeprint", () => {
    paper?.remove();
    paper = onPaper("print", PRINT_RATIO);
    // For the foot of each page; what could end a CSS string is written as its number.
    const title = document.title.replace(/[^\p{L}\p{N} ]/gu, (one) => `\\${one.codePointAt(0)?.toString(16)} `);
    document.documentElement.style.setProperty("--paper-title", `"${title}"`);
  });
  addEventListener("afterprint", () => {
    paper?.remove();
    paper = null;
  });
  addEventListener("keydown", (event) => {
    const asked = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "p";
    if (!asked || event.defaultPrevented) return;
    event.preventDefault();
    void printed();
  });
}
