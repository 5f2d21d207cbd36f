// What other people wrote, as text: cut by CSS, its writing direction kept to itself, and never a script or a style.

import { useLayoutEffect } from "preact/hooks";

const TITLE = 300;

/** A name, an address, a subject. */
export function Text({ children, cut = true }: { children: string; cut?: boolean }) {
  return <bdi class={cut ? "cut" : "wrap"} title={cut ? children.slice(0, TITLE) : undefined}>{children}</bdi>;
}

/** The address if it is one of the web; else null. Browsers' own reading decides, not the text's beginning. */
export function webAddress(text: string): string | null {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

export function OutLink({ to }: { to: string }) {
  const href = webAddress(to);
  if (href === null) return <Text>{to}</Text>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow" class="out">
      <Text>{to}</Text>
    </a>
  );
}

/** A name for the tab, as soon as its page is there; its marks of direction end with it. */
export function useTitle(name: string): void {
  useLayoutEffect(() => {
    document.title = `\u2068${name.slice(0, TITLE)}\u2069 · Campaign Reports`;
  }, [name]);
}
