// What stands above every page of one campaign.

import type { ComponentChildren } from "preact";
import { Text } from "../parts/text";
import { campaignList, pathTo } from "../router";

export const TABS = [
  ["", "Report"],
  ["recipients", "Recipients"],
  ["events", "Event log"],
  ["ab", "A/B test"],
] as const;

export function CampaignHead({ campaign, name, subject, page, children }: {
  campaign: string; name?: string | null | undefined; subject?: string | null | undefined; page: string; children?: ComponentChildren;
}) {
  return (
    <>
      <nav class="small" aria-label="Back"><a href={campaignList.value}>← Campaigns</a></nav>
      <div class="title">
        <div class="names">
          <h1 tabIndex={-1}><Text>{name || campaign}</Text></h1>
          {(subject || name) && <p class="quiet"><Text>{subject || campaign}</Text></p>}
        </div>
        {children}
      </div>
      {TABS.length > 1 && (
        <nav class="tabs" aria-label="Campaign">
          {TABS.map(([part, title]) => (
            <a key={part} href={part ? pathTo("campaigns", campaign, part) : pathTo("campaigns", campaign)}
              aria-current={part === page ? "page" : undefined}>{title}</a>
          ))}
        </nav>
      )}
    </>
  );
}
