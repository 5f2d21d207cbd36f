// A page or chart whose code is loaded when it is first shown.

import { signal } from "@preact/signals";
import type { ComponentChildren, ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Failed, Loading } from "./parts/states";

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let known: ComponentType<P> | undefined;
  return function Lazy(props: P) {
    const [failed, setFailed] = useState(false);
    const [, setLoaded] = useState(false);
    const begin = () => {
      setFailed(false);
      load().then((found) => {
        known = found;
        setLoaded(true);
      }, () => setFailed(true));
    };
    useEffect(() => {
      if (!known) begin();
    }, []);
    if (known) {
      const Known = known;
      return <Known {...props} />;
    }
    return failed ? <Failed message="This part of the page could not be loaded." again={begin} /> : <Loading />;
  };
}

/** Everything counts as seen: somebody prints. */
export const allInSight = signal(false);

/** Shows its children once it has come into sight, or near it; until then a place of that height. */
export function InSight({ height, children }: { height: string; children: ComponentChildren }) {
  const place = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState(false);
  const all = allInSight.value;
  useEffect(() => {
    if (all) setSeen(true);
    if (!place.current || seen) return;
    const watching = new IntersectionObserver(
      (entries) => { if (entries.some((entry) => entry.isIntersecting)) setSeen(true); }, { rootMargin: "200px" });
    watching.observe(place.current);
    return () => watching.disconnect();
  }, [seen, all]);
  return seen ? children : <div ref={place} class="unseen" style={{ minHeight: height }} />;
}
