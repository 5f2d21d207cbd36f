// What a page says to somebody whose key doesn't reach so far.

import type { ComponentChildren } from "preact";
import { may, session } from "../api/session";
import { Empty } from "./states";
import { Text } from "./text";

export function Needs({ scope, children }: { scope: string; children?: ComponentChildren }) {
  if (may(scope)) return <>{children}</>;
  return (
    <Empty title="Your key does not reach this page">
      <p>It needs a key with the scope <code>{scope}</code>; you are signed in with <Text>{session.value?.key ?? ""}</Text>.
        Whoever looks after <code>reports.toml</code> can give you one.</p>
    </Empty>
  );
}
