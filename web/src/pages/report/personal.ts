// Links that are each recipient's own, which can't be compared (app/personal_links.py).

import type { Links } from "../../api/types";

const MANY = 1000;
const NEARLY_ALL = 0.9;

/** Whether even of the links with the most clicks nearly all were clicked by one recipient only; so then were the others. */
export function arePersonal(links: Pick<Links, "rows" | "other">): boolean {
  const own = links.rows.filter((row) => row.unique_clicks <= 1).length;
  return links.rows.length + links.other.links >= MANY && own >= NEARLY_ALL * links.rows.length;
}
