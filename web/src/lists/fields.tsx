// Filters: fields whose values live in the address. Another filter begins at the first page again.

import { useEffect, useRef, useState } from "preact/hooks";
import { Text } from "../parts/text";
import { filter, filters } from "../router";
import { choiceText } from "./words";
import { momentAt, wallTime } from "./zones";

function set(name: string, value: string | undefined, replace = false): void {
  filter({ [name]: value, cursor: undefined }, replace);
}

export function SelectField({ name, label, all, choices }: {
  name: string; label: string; all: string; choices: readonly (readonly [value: string, text: string])[];
}) {
  const value = filters.value.get(name) ?? "";
  // What the address asks for is a choice, also when the campaign has no such thing (yet).
  const shown = value && !choices.some(([one]) => one === value) ? [...choices, [value, choiceText(value)] as const] : choices;
  return (
    <label class="filter">
      <span><Text>{label}</Text></span>
      <select value={value} onChange={(event) => set(name, event.currentTarget.value)}>
        <option value="">{all}</option>
        {shown.map(([one, text]) => <option key={one} value={one}>{text}</option>)}
      </select>
    </label>
  );
}

/** One search is one step back, however many letters it has: the first letter makes the step. */
export function TextField({ name, label, placeholder }: { name: string; label: string; placeholder: string }) {
  const value = filters.value.get(name) ?? "";
  const typing = useRef(false);
  return (
    <label class="filter">
      <span>{label}</span>
      <input type="search" name={name} placeholder={placeholder} maxLength={320} autocomplete="off" spellcheck={false} value={value}
        onInput={(event) => { set(name, event.currentTarget.value, typing.current); typing.current = true; }}
        onBlur={() => { typing.current = false; }} />
    </label>
  );
}

export function TimeField({ name, label, zone }: { name: string; label: string; zone: string }) {
  const value = filters.value.get(name) ?? "";
  const [text, setText] = useState("");
  useEffect(() => setText(wallTime(Date.parse(value), zone)), [value, zone]);
  return (
    <label class="filter">
      <span>{label}</span>
      <input type="datetime-local" name={name} value={text}
        onChange={(event) => set(name, event.currentTarget.value ? momentAt(event.currentTarget.value, zone) : undefined)} />
    </label>
  );
}

export function VariantFields({ variants }: { variants: Record<string, string[]> }) {
  const asked = [...filters.value.keys()].filter((name) => name.startsWith("variant.")).map((name) => name.slice(8));
  return (
    <>
      {[...new Set([...Object.keys(variants), ...asked])].map((field) => (
        <SelectField key={field} name={`variant.${field}`} label={field} all="Any"
          choices={(variants[field] ?? []).map((value) => [value, choiceText(value)])} />
      ))}
    </>
  );
}

/** The values of the address that the API knows, with those of the variant. */
export function asked(names: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of filters.value) {
    if (value && (names.includes(name) || (name.startsWith("variant.") && name.length > 8))) found[name] = value;
  }
  return found;
}

export function ClearFilters({ names }: { names: readonly string[] }) {
  const some = Object.keys(asked(names));
  if (some.length === 0) return null;
  return (
    <button type="button" class="plain" onClick={() => filter({ ...Object.fromEntries(some.map((name) => [name, undefined])), cursor: undefined })}>
      Clear filters
    </button>
  );
}
