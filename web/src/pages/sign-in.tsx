import { useEffect, useRef, useState } from "preact/hooks";
import { wordsOf } from "../api/http";
import { notice, signIn } from "../api/session";
import { Logo, ThemeButton } from "../parts/shell";
import { Notice } from "../parts/states";
import { headingTakesFocus } from "../router";

export function SignInPage() {
  const [key, setKey] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = "Sign in · Campaign Reports";
    field.current?.focus(); // also after a session has ended, when no page is loaded
  }, []);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      await signIn(key);
      headingTakesFocus();
    } catch (failure) {
      setError(wordsOf(failure) === "Unknown key." ? "No key like this is known. Check it and try again." : wordsOf(failure));
      setBusy(false);
    }
  };
  return (
    <main class="sign-in">
      <form class="card" onSubmit={submit}>
        <p class="brand"><Logo />Campaign Reports</p>
        <h1>Sign in</h1>
        {notice.value && <Notice>{notice.value}</Notice>}
        <label class="field" for="key">
          <span>Key</span>
          <input id="key" type="password" autocomplete="current-password" required value={key} ref={field}
            aria-invalid={error ? "true" : undefined} aria-describedby="key-help"
            onInput={(event) => setKey(event.currentTarget.value)} />
        </label>
        <p class="quiet small" id="key-help">One of your organisation's keys, as it stands in <code>reports.toml</code>.</p>
        {error && <p class="error" role="alert">{error}</p>}
        <button class="button" type="submit" disabled={busy}>{busy ? "Signing in…" : "Sign in"}</button>
      </form>
      <ThemeButton />
    </main>
  );
}
