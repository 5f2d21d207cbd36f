// Asking the API: JSON in and out, errors with the API's own code and message, repeats of what may be repeated.

import { signedOut } from "./session";

const TRIES = 3;
const PAUSE_MS = 400;
const TIMEOUT_MS = 15_000;

export class ApiError extends Error {
  /** `status` 0: nobody answered. */
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

type Values = Record<string, string | number | undefined>;

export function address(path: string, values: Values = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined && value !== "") query.set(name, String(value));
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

export function campaignPath(campaign: string, rest = ""): string {
  return `/api/v1/campaigns/${encodeURIComponent(campaign)}${rest}`;
}

/** A GET: asked again when the server is busy or away, as it changes nothing. */
export async function get<T>(path: string, values: Values = {}, signal?: AbortSignal, tries = TRIES): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return (await once("GET", address(path, values), undefined, signal)) as T;
    } catch (error) {
      const again = error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status === 503);
      if (!again || attempt >= tries || signal?.aborted || !navigator.onLine) throw error;
      await new Promise((done) => setTimeout(done, PAUSE_MS * 2 ** attempt * (0.5 + Math.random() / 2)));
    }
  }
}

/** What changes something: once. */
export async function send<T>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<T> {
  return (await once(method, path, body)) as T;
}

/** The same with a body that is sent as it is. */
export async function sendBody<T>(path: string, body: string): Promise<T> {
  return (await once("POST", path, new Blob([body]))) as T;
}

async function once(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<unknown> {
  const plain = body instanceof URLSearchParams || body instanceof Blob;
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(path, {
      method,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      ...(body === undefined ? {} : { body: plain ? body : JSON.stringify(body) }),
      headers: body === undefined || plain ? {} : { "Content-Type": "application/json" },
    });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", navigator.onLine ? "The server does not answer." : "You are offline.");
  }
  const document = parsed(text);
  if (answer.ok) return document;
  const said = (document ?? {}) as { error?: string; message?: string };
  // Below a shared link nobody is signed in or out.
  if (answer.status === 401 && path !== "/session" && !path.startsWith("/api/v1/shared")) signedOut();
  throw new ApiError(answer.status, said.error ?? "error", sentence(said.message ?? `The server answered ${answer.status}.`));
}

function parsed(text: string): unknown {
  try {
    return text ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

function sentence(text: string): string {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}

export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : "Something went wrong.";
}
