// The report to take along: on paper or as PDF, and as a picture.

import { useState } from "preact/hooks";
import { complete, printed } from "./paper";
import { save } from "./save";

type State = { kind: "idle" | "busy" | "done" } | { kind: "failed"; message: string };

/** A name that every file system takes, and that reads in one direction. */
export function fileName(campaign: string): string {
  const safe = campaign.replace(/[\p{Cc}\p{Cf}\\/:*?"<>|]+/gu, "_").slice(0, 100).replace(/^[. ]+|[. ]+$/g, "");
  return `${safe || "campaign"}-report.png`;
}

export function PaperButtons({ campaign }: { campaign: string }) {
  const [state, setState] = useState<State>({ kind: "idle" });
  const [printing, setPrinting] = useState(false);
  // Not `disabled`: a button that is loses the focus.
  const take = async () => {
    if (state.kind === "busy") return;
    setState({ kind: "busy" });
    try {
      const [{ picture }] = await Promise.all([import("./paper-picture"), complete()]);
      save(await picture(), fileName(campaign));
      setState({ kind: "done" });
    } catch (error) {
      setState({ kind: "failed", message: `No picture was made. ${error instanceof Error ? error.message : ""}` });
    }
  };
  const print = async () => {
    if (printing) return;
    setPrinting(true);
    await printed();
    setPrinting(false);
  };
  return (
    <span class="take not-on-paper">
      <button type="button" class="button quiet-button" id="print" aria-disabled={printing} onClick={() => void print()}>Print or PDF</button>
      <button type="button" class="button quiet-button" id="picture" title="The report as one picture"
        aria-disabled={state.kind === "busy"} onClick={() => void take()}>PNG</button>
      <span class={state.kind === "failed" ? "small said" : "hidden"} role="status">
        {state.kind === "busy" && "Making the picture…"}
        {state.kind === "done" && "The picture is saved."}
        {state.kind === "failed" && <span class="error">{state.message}</span>}
      </span>
    </span>
  );
}
