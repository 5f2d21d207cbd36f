// Names with numbers and a bar each: places, clients, devices.

import { useState } from "preact/hooks";
import { number, rowName } from "../format";
import { Text } from "./text";
import { Figure } from "./tiles";

export type Bar = { key: string; name: string; value: number; aside?: string; to?: string | undefined; says?: string };

export function Bars({ title, unit, bars, shown = 8 }: { title: string; unit: string; bars: readonly Bar[]; shown?: number }) {
  const [all, setAll] = useState(false);
  const most = Math.max(1, ...bars.map((bar) => bar.value));
  return (
    <div class="bars">
      <div class="bars-head"><h3>{title}</h3><span class="quiet small">{unit}</span></div>
      {bars.length === 0 && <p class="quiet small">Nothing yet.</p>}
      <ul>
        {(all ? bars : bars.slice(0, shown)).map((bar) => (
          <li key={bar.key}>
            <span class="name"><Text>{rowName(bar.name)}</Text>{bar.aside && <span class="quiet small"> <Text>{bar.aside}</Text></span>}</span>
            <Figure value={bar.value} to={bar.to} says={bar.says ?? title} />
            <i class="bar" aria-hidden="true"><i style={{ width: `${(100 * bar.value) / most}%` }} /></i>
          </li>
        ))}
      </ul>
      {bars.length > shown && !all && <p class="paper-only quiet small">{number(shown)} of {number(bars.length)}</p>}
      {bars.length > shown && (
        <button type="button" class="plain more" onClick={() => setAll(!all)}>
          {all ? "Show fewer" : `Show all ${number(bars.length)}`}
        </button>
      )}
    </div>
  );
}
