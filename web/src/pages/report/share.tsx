// Links by which anybody reads this report: made with an expiry, copied, listed, taken back.

import { useEffect, useRef, useState } from "preact/hooks";
import { campaignPath, get, send, wordsOf } from "../../api/http";
import type { ShareItem, Shares } from "../../api/types";
import { moment, number } from "../../format";
import { Select } from "../../parts/controls";
import { Copy } from "../../parts/copy";
import { useLanding } from "../../parts/landing";
import { Failed, Loading } from "../../parts/states";
import { Text } from "../../parts/text";

const DAY_MS = 86_400_000;
const LIVES = [["1", "one day"], ["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "a year"]] as const;
type Life = (typeof LIVES)[number][0];

export function Share({ campaign, zone }: { campaign: string; zone: string }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" class="button quiet-button" id="share" aria-haspopup="dialog"
        onClick={() => { setOpen(true); dialog.current?.showModal(); }}>Share</button>
      <dialog ref={dialog} class="card share" aria-labelledby="share-title" onClose={() => setOpen(false)}>
        <div class="title">
          <h2 id="share-title">Share this report</h2>
          <button type="button" class="plain" onClick={() => dialog.current?.close()}>Close</button>
        </div>
        <p class="quiet small">Whoever has the link reads this report, and it moves for them too. They see no recipients, no events and nothing else.</p>
        {open && <Links path={campaignPath(campaign, "/shares")} zone={zone} />}
      </dialog>
    </>
  );
}

function Links({ path, zone }: { path: string; zone: string }) {
  const [life, setLife] = useState<Life>("7");
  const [items, setItems] = useState<ShareItem[] | null>(null);
  const [error, setError] = useState("");
  // From the start: the list, when it comes, would hide a link that was made before.
  const [busy, setBusy] = useState(true);
  const place = useLanding<HTMLUListElement>(items);
  const load = async () => setItems((await get<Shares>(path)).items);
  const doing = async (what: () => Promise<void>) => {
    setBusy(true);
    setError("");
    try {
      await what();
    } catch (failure) {
      setError(wordsOf(failure));
    }
    setBusy(false);
  };
  useEffect(() => void doing(load), [path]);
  const make = (event: Event) => {
    event.preventDefault();
    if (busy) return; // the button is not `disabled`, which would take the focus away
    void doing(async () => {
      const made = await send<ShareItem>("POST", path, { expires: Date.now() + Number(life) * DAY_MS });
      setItems((now) => [made, ...(now ?? [])]);
    });
  };
  const revoke = async (id: string) => busy ? undefined : doing(async () => {
    await send("DELETE", `${path}/${id}`);
    await load();
  });
  const live = items?.filter((item) => item.state === "live") ?? [];
  const ended = items?.filter((item) => item.state !== "live") ?? [];
  return (
    <>
      <form class="actions" onSubmit={make}>
        <Select label="Ends after" choices={LIVES} value={life} set={setLife} />
        <button type="submit" class="button" aria-disabled={busy}>Make a link</button>
      </form>
      {items !== null && error && <p class="error" role="alert">{error}</p>}
      {items === null ? error ? <Failed message={error} again={() => void doing(load)} /> : <Loading what="Loading the links" /> : (
        <>
          {live.length === 0 && <p class="quiet">No link works at the moment.</p>}
          <ul class="shares" ref={place} tabIndex={-1}>{live.map((item) => <Live key={item.id} item={item} zone={zone} busy={busy} revoke={revoke} />)}</ul>
          {ended.length > 0 && (
            <details>
              <summary>{number(ended.length)} that ended</summary>
              <ul class="pairs small">
                {ended.map((item) => (
                  <li key={item.id}>
                    <span>Made {moment(item.made_at, zone)} with <Text>{item.made_by}</Text></span>
                    <span>{item.state === "revoked" ? `revoked ${moment(item.revoked_at, zone)}` : `expired ${moment(item.expires, zone)}`}</span>
                  </li>
                ))}
              </ul>
            </details>
          )}
        </>
      )}
    </>
  );
}

function Live({ item, zone, busy, revoke }: { item: ShareItem; zone: string; busy: boolean; revoke: (id: string) => Promise<void> }) {
  const [sure, setSure] = useState(false);
  const place = useLanding<HTMLParagraphElement>(sure);
  const until = moment(item.expires, zone);
  return (
    <li>
      {item.url !== null && <Copy label={`Link that ends ${until}`} text={item.url} />}
      <p class="actions small" ref={place} tabIndex={-1}>
        <span class="quiet">Made {moment(item.made_at, zone)} with <Text>{item.made_by}</Text></span>
        {sure
          ? (
            <>
              <button type="button" class="plain bad" aria-disabled={busy} onClick={() => void revoke(item.id)}>Revoke now</button>
              <button type="button" class="plain" onClick={() => setSure(false)}>Keep it</button>
            </>
          )
          : <button type="button" class="plain" aria-label={`Revoke the link that ends ${until}`} onClick={() => setSure(true)}>Revoke</button>}
      </p>
    </li>
  );
}
