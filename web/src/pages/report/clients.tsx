import type { Clients } from "../../api/types";
import { Bars } from "../../parts/bars";

export function ClientsCard({ clients }: { clients: Clients }) {
  return (
    <section class="card" aria-label="Clients and devices">
      <h2>Clients and devices</h2>
      <div class="two">
        <Bars title="E-mail clients" unit="opens" bars={bars(clients.clients, "client", "opens")} />
        <Bars title="Devices" unit="opens" bars={bars(clients.devices, "device", "opens")} />
        <Bars title="Operating systems" unit="opens" bars={bars(clients.systems, "system", "opens")} />
        <Bars title="Browsers" unit="clicks" bars={bars(clients.browsers, "browser", "clicks")} />
      </div>
    </section>
  );
}

function bars<Name extends string>(
  rows: readonly (Record<Name, string> & { opens: number; clicks: number })[], name: Name, value: "opens" | "clicks",
) {
  return rows.filter((row) => row[value] > 0).map((row) => ({ key: row[name], name: row[name], value: row[value] }));
}
