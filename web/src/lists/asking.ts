// Asking again when something moved: never two at a time, and never more often than it was told.

export class Asking {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private running = false;
  private wanted = false;
  private begunAt = Number.NEGATIVE_INFINITY;
  private readonly stop = new AbortController();

  /** `ask` handles its own failures. */
  constructor(private readonly ask: (signal: AbortSignal) => Promise<void>, private readonly everyMs: number) {}

  /** Something moved: asks as soon as it may. */
  moved(atLeastMs = 0): void {
    if (this.stop.signal.aborted || this.timer !== undefined) return;
    if (this.running) {
      this.wanted = true;
      return;
    }
    const wait = Math.max(atLeastMs, this.begunAt + this.everyMs - performance.now());
    this.timer = setTimeout(() => void this.run(), wait);
  }

  close(): void {
    clearTimeout(this.timer);
    this.stop.abort();
  }

  private async run(): Promise<void> {
    this.timer = undefined;
    this.running = true;
    this.wanted = false;
    this.begunAt = performance.now();
    await this.ask(this.stop.signal);
    this.running = false;
    if (this.wanted) this.moved();
  }
}
