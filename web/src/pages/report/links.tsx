import { useEffect, useMemo, useState } from "preact/hooks";
import { campaignPath, get, wordsOf } from "../../api/http";
import type { Count, Link, Links } from "../../api/types";
import { clicksOf, isLink, useListTo } from "../../lists/to";
import { Who } from "../../lists/who";
import { useShared } from "../../live/path";
import { moment, number, percent } from "../../format";
import { Empty, Notice } from "../../parts/states";
import { useEvery, useStill } from "../../parts/still";
import { OutLink } from "../../parts/text";
import { Figure } from "../../parts/tiles";
import { arePersonal } from "./personal";

const SHOWN = 10;
const CLICKERS = 10;
const WHOLE_LIST_MS = 1000; // a thousand rows, several times a second, is more than anybody reads

export function LinksCard({ campaign, links, count, timezone }: { campaign: string; links: Links; count: Count; timezone: string }) {
  const [all, setAll] = useState(false);
  const seen = useEvery(links.rows, all ? WHOLE_LIST_MS : 0);
  const rows = useStill(
    useMemo(() => (all ? seen : seen.slice(0, SHOWN)), [seen, all]),
    (row) => row.id,
    (row) => <LinkRow key={row.id} campaign={campaign} row={row} count={count} timezone={timezone} />,
    [campaign, count, timezone],
  );
  const list = useMemo(() => <ol class={all ? "links many" : "links"}>{rows}</ol>, [rows, all]);
  return (
    <section class="card" aria-label="Links">
      <h2>Links</h2>
      {arePersonal(links) && (
        <Notice kind="info">Nearly every recipient has a link of their own, so links can't be compared here. Whoever runs this
          installation can change that for later mailings.</Notice>
      )}
      {links.rows.length === 0 && <Empty title="No clicks yet" />}
      {list}
      {links.rows.length > SHOWN && !all && <p class="paper-only quiet small">{number(SHOWN)} of {number(links.rows.length)}</p>}
      {links.rows.length > SHOWN && (
        <button type="button" class="plain more" onClick={() => setAll(!all)}>
          {all ? "Show fewer" : `Show all ${number(links.rows.length)}`}
        </button>
      )}
      {links.other.links > 0 && (
        <p class="quiet small">and {number(links.other.links)} more links with {number(links.other.total_clicks)} clicks</p>
      )}
    </section>
  );
}

function LinkRow({ campaign, row, count, timezone }: { campaign: string; row: Link; count: Count; timezone: string }) {
  const [open, setOpen] = useState(false);
  const shared = useShared();
  const to = useListTo(campaign);
  const one = isLink(row.id);
  return (
    <li>
      <div class="link-row">
        <span class="name"><OutLink to={row.link} /></span>
        <span class="figure"><Figure value={row.total_clicks} to={one ? to("events", clicksOf(row.id, count)) : undefined} says="clicks of this link; the event log has those of excluded addresses, too, and marks them" /><small>clicks</small></span>
        <span class="figure"><Figure value={row.unique_clicks} to={one ? to("recipients", { link: row.id }) : undefined} says="recipients who clicked this link" /><small>people</small></span>
        <span class="figure"><b>{percent(row.share)}</b><small>of clicks</small></span>
        <i class="bar" aria-hidden="true"><i style={{ width: `${row.share}%` }} /></i>
      </div>
      <details onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary class="small">{shared ? "Where, and when" : "Who clicked, and where"}</summary>
        {open && (
          <div class="two">
            {!shared && <Clickers campaign={campaign} row={row} count={count} />}
            <div>
              <h3>Positions in the mail</h3>
              {row.positions.length === 0 && <p class="quiet small">The mail service doesn't tell them.</p>}
              <ol class="pairs">
                {row.positions.map((one) => (
                  <li key={one.position}><span>Position {number(one.position)}</span><b>{number(one.total_clicks)}</b></li>
                ))}
              </ol>
              <p class="quiet small">First click {moment(row.first_at, timezone)}, last click {moment(row.last_at, timezone)}</p>
            </div>
          </div>
        )}
      </details>
    </li>
  );
}

/** The report has those of the first links; of others they are asked for. */
function Clickers({ campaign, row, count }: { campaign: string; row: Link; count: Count }) {
  const [asked, setAsked] = useState<Link["top_clickers"]>(null);
  const [error, setError] = useState("");
  const missing = row.top_clickers === null;
  useEffect(() => {
    if (!missing) return;
    const stop = new AbortController();
    get<{ items: NonNullable<Link["top_clickers"]> }>(
      campaignPath(campaign, `/links/${encodeURIComponent(row.id)}/clickers`), { count, limit: CLICKERS }, stop.signal,
    ).then((answer) => setAsked(answer.items), (failure) => { if (!stop.signal.aborted) setError(wordsOf(failure)); });
    return () => stop.abort();
  }, [campaign, row.id, count, missing]);
  const clickers = row.top_clickers ?? asked;
  return (
    <div>
      <h3>Top clickers</h3>
      {clickers === null && <p class="quiet small">{error || "Loading…"}</p>}
      <ol class="pairs">
        {clickers?.map((one, index) => (
          <li key={one.recipient ?? index}><Who campaign={campaign} recipient={one.recipient} /><b>{number(one.clicks)}</b></li>
        ))}
      </ol>
    </div>
  );
}
