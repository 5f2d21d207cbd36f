// An address or a link to be copied: shown whole, selected when it is touched.

import { useId, useRef, useState } from "preact/hooks";

const SAID_MS = 2_000;

export function Copy({ label, text, hidden = false }: { label: string; text: string; hidden?: boolean }) {
  const id = useId();
  const field = useRef<HTMLInputElement>(null);
  const [said, setSaid] = useState("");
  const copy = async () => {
    let done: boolean;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      // Pages that came without TLS have no clipboard, and some browsers ask and are refused.
      field.current?.select();
      done = document.execCommand("copy");
    }
    setSaid(done ? "Copied" : "Press Ctrl+C");
    setTimeout(() => setSaid(""), SAID_MS);
  };
  return (
    <div class="copy">
      <label for={id} class={hidden ? "hidden" : "small"}>{label}</label>
      <input id={id} ref={field} readOnly value={text} spellcheck={false} onFocus={(event) => event.currentTarget.select()} />
      <button type="button" class="button quiet-button" aria-label={`Copy: ${label}`} onClick={() => void copy()}>
        {said || "Copy"}
      </button>
      <span class="hidden" role="status">{said}</span>
    </div>
  );
}
