// One event stream that stays. The browser's own EventSource gives up for good on any answer but 200, and doesn't see a
// connection that is half open, so it is made anew here: with growing pauses, chance in them, and `last_event_id`.

export type State = "connecting" | "live" | "reconnecting" | "offline";

export const SILENT_MS = 35_000; // two pings and a bit
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 30_000;
const HIDDEN_MS = 30_000;

export type Handlers = {
  data(name: string, document: unknown): void;
  state(state: State): void;
  /** Asked after a failure: whether to try again. */
  failed(): Promise<boolean>;
};

/** The n-th pause after a failure, `chance` in [0, 1). */
export function pauseMs(failures: number, chance: number): number {
  return Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1)) * (0.5 + chance);
}

export class LiveStream {
  private source: EventSource | null = null;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private watchdog: ReturnType<typeof setTimeout> | undefined;
  private hiding: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private lastId = "";
  private closed = false;
  /** Hidden for so long that the connection was left to other tabs. */
  private asleep = false;
  private wasLive = false;

  /** `names`: the events that are wanted; pings are seen in any case. */
  constructor(private readonly path: string, private readonly names: readonly string[], private readonly on: Handlers) {
    addEventListener("online", this.now);
    addEventListener("offline", this.offline);
    document.addEventListener("visibilitychange", this.seen);
    addEventListener("pagehide", this.left);
    addEventListener("pageshow", this.back);
    this.open();
  }

  close(): void {
    this.closed = true;
    this.drop();
    clearTimeout(this.hiding);
    removeEventListener("online", this.now);
    removeEventListener("offline", this.offline);
    document.removeEventListener("visibilitychange", this.seen);
    removeEventListener("pagehide", this.left);
    removeEventListener("pageshow", this.back);
  }

  /** Without waiting for the end of the pause. */
  again(): void {
    this.now();
  }

  private readonly now = (): void => {
    if (this.asleep) return;
    this.failures = 0;
    this.open();
  };

  private readonly offline = (): void => {
    this.drop();
    this.on.state("offline");
  };

  // Browsers allow six connections to a host: tabs that nobody looks at leave theirs to others.
  private readonly seen = (): void => {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = setTimeout(() => {
        this.asleep = true;
        this.drop();
      }, HIDDEN_MS);
      return;
    }
    this.asleep = false;
    if (!this.source && !this.closed) this.now();
  };

  // A page that was left lives on in the browser's back/forward cache, and so would its connection.
  private readonly left = (): void => this.drop();
  private readonly back = (): void => {
    if (!this.source && !this.closed) this.now();
  };

  private drop(): void {
    clearTimeout(this.retry);
    clearTimeout(this.watchdog);
    this.source?.close();
    this.source = null;
  }

  private open(): void {
    this.drop();
    if (this.closed) return;
    this.on.state(this.wasLive || this.failures ? "reconnecting" : "connecting");
    const url = new URL(this.path, location.href);
    if (this.lastId) url.searchParams.set("last_event_id", this.lastId);
    const source = new EventSource(url);
    this.source = source;
    this.watch();
    source.onopen = () => {
      this.failures = 0;
      this.wasLive = true;
      this.watch();
      this.on.state("live");
    };
    source.onerror = () => void this.fail();
    for (const name of [...this.names, "ping"]) {
      source.addEventListener(name, (event: MessageEvent<string>) => {
        if (source !== this.source) return;
        this.watch();
        if (event.lastEventId) this.lastId = event.lastEventId;
        if (name !== "ping") this.on.data(name, event.data ? JSON.parse(event.data) : null);
      });
    }
  }

  private watch(): void {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => void this.fail(), SILENT_MS);
  }

  private async fail(): Promise<void> {
    this.drop();
    this.failures += 1;
    this.on.state(navigator.onLine ? "reconnecting" : "offline");
    if (!(await this.on.failed())) return this.close();
    if (this.closed || this.asleep || this.source || !navigator.onLine) return;
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.open(), pauseMs(this.failures, Math.random()));
  }
}
