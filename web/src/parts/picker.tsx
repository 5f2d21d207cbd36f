// One campaign of thousands: a field whose letters the API searches for, and below it the newest that have them.

import { useEffect, useId, useState } from "preact/hooks";
import { get, wordsOf } from "../api/http";
import type { Listed, Page } from "../api/types";
import { Text } from "./text";

const SHOWN = 10;
const TYPING_MS = 250;
const MAX_SEARCH = 320; // for the API

type Found = { search: string; rows: Listed[]; more: boolean; error: string };

/** `without`: those that can't be chosen. After the WAI-ARIA pattern of a combobox with a list. */
export function CampaignPicker({ without, choose }: { without: readonly string[]; choose: (campaign: Listed) => void }) {
  const id = useId();
  const [text, setText] = useState("");
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(0);
  const search = text.trim();
  const found = useFound(open, search, without);
  const rows = found?.rows.filter((row) => !without.includes(row.campaign)) ?? [];
  // Enter takes none that was found for other letters.
  const active = found?.search === search ? rows[Math.min(at, rows.length - 1)] : undefined;
  const take = (row: Listed) => {
    setText("");
    setOpen(false);
    choose(row);
  };
  const shown = open && active ? `${id}-${rows.indexOf(active)}` : undefined;
  useEffect(() => {
    if (shown) document.getElementById(shown)?.scrollIntoView({ block: "nearest" });
  }, [shown]);
  const onKeyDown = (event: KeyboardEvent) => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step !== 0) {
      event.preventDefault();
      if (open && rows.length > 0) setAt((Math.min(at, rows.length - 1) + step + rows.length) % rows.length);
      setOpen(true);
    } else if (event.key === "Enter" && open && active) {
      event.preventDefault();
      take(active);
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      setOpen(false);
    }
  };
  return (
    <div class="picker">
      <input type="text" role="combobox" aria-label="Add a campaign" placeholder="Add a campaign" autocomplete="off" spellcheck={false}
        aria-autocomplete="list" aria-expanded={open} aria-controls={`${id}-list`}
        aria-activedescendant={shown} maxLength={MAX_SEARCH} value={text}
        onInput={(event) => { setText(event.currentTarget.value); setAt(0); setOpen(true); }}
        onFocus={() => setOpen(true)} onClick={() => setOpen(true)} onBlur={() => setOpen(false)} onKeyDown={onKeyDown} />
      <div class="picker-pop" hidden={!open}>
        <div role="listbox" id={`${id}-list`} aria-label="Campaigns">
          {rows.map((row, index) => (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the keys are the field's, which keeps the focus
            <div key={row.campaign} id={`${id}-${index}`} role="option" tabIndex={-1} aria-selected={row === active}
              onMouseDown={(event) => event.preventDefault()} onClick={() => take(row)}>
              <Text>{row.name ?? row.campaign}</Text>
              <Beside row={row} />
            </div>
          ))}
        </div>
        <p class="quiet small" role="status">{open ? said(found, search) : ""}</p>
      </div>
    </div>
  );
}

/** What tells campaigns of one name apart. */
function Beside({ row }: { row: Listed }) {
  const text = row.name ? row.campaign : row.subject;
  return text ? <span class="quiet small"><Text>{text}</Text></span> : null;
}

function said(found: Found | null, search: string): string {
  if (found === null || (found.search !== search && found.rows.length === 0)) return "Searching…";
  if (found.error) return found.error;
  if (found.rows.length === 0) return search ? "No other campaign has these words" : "There is no other campaign";
  return found.more ? "There are more: write some letters of the name, subject or id" : "";
}

/** Null while it is asked for the first time. */
function useFound(wanted: boolean, search: string, without: readonly string[]): Found | null {
  const [found, setFound] = useState<Found | null>(null);
  useEffect(() => {
    if (!wanted) return;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      get<Page<Listed>>("/api/v1/campaigns", { search, limit: SHOWN + without.length }, stop.signal).then((page) => {
        const rows = page.items.filter((item) => !without.includes(item.campaign));
        setFound({ search, rows: rows.slice(0, SHOWN), more: rows.length > SHOWN || page.next !== null, error: "" });
      }, (failure) => { if (!stop.signal.aborted) setFound({ search, rows: [], more: false, error: wordsOf(failure) }); });
    }, search ? TYPING_MS : 0);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [wanted, search, without.join("\n")]);
  return found;
}
