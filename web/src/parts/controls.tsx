// One choice of few: radio buttons that look like a switch, so that arrows and screen readers work by themselves.

import { useId } from "preact/hooks";
import { count } from "../settings";

type Choice<T extends string> = { value: T; label: string; title?: string };

export function Switch<T extends string>(
  { label, choices, value, set }: { label: string; choices: readonly Choice<T>[]; value: T; set: (value: T) => void },
) {
  const name = useId();
  return (
    <fieldset class="switch">
      <legend class="hidden">{label}</legend>
      {choices.map((choice) => (
        <label key={choice.value} title={choice.title}>
          <input type="radio" name={name} value={choice.value} checked={choice.value === value}
            onChange={() => set(choice.value)} />
          <span>{choice.label}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** What counts, for every number of every page. */
export function CountSwitch() {
  return (
    <Switch label="What counts" value={count.value} set={(value) => { count.value = value; }}
      choices={[
        { value: "all", label: "Every event", title: "Every open and click, as mail services count them" },
        { value: "people", label: "People only", title: "Only opens and clicks that nothing says a machine made" },
      ]} />
  );
}

export function Select<T extends string>(
  { label, choices, value, set }: { label: string; choices: readonly (readonly [T, string])[]; value: T; set: (value: T) => void },
) {
  const id = useId();
  return (
    <span class="select">
      <label for={id} class="quiet small">{label}</label>
      <select id={id} value={value} onChange={(event) => set(event.currentTarget.value as T)}>
        {choices.map(([name, words]) => <option key={name} value={name}>{words}</option>)}
      </select>
    </span>
  );
}
