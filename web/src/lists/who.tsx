// A recipient in a list: the link to all that is known about them.

import { Text } from "../parts/text";
import { pathTo } from "../router";

export function Who({ campaign, recipient }: { campaign: string; recipient: string | null }) {
  if (recipient === null) return <span class="quiet">an erased person</span>;
  return <a href={pathTo("campaigns", campaign, "recipients", recipient)}><Text>{recipient}</Text></a>;
}
