import "./style/index.css";
import { render } from "preact";
import { begin, unasked } from "./api/session";
import { App } from "./app";
import { startPaper } from "./parts/paper";
import { path, startRouter } from "./router";
import { startTheme } from "./settings";

startTheme();
startRouter();
startPaper();
// Who opens a shared link is not asked who they are.
if (path.value[0] !== "shared") void begin();
// The link with a key, opened where a page of ours is open already: browsers don't load it anew.
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#key=")) void begin();
});
addEventListener("online", () => {
  if (unasked.value) void begin();
});
const root = document.getElementById("app");
if (root) render(<App />, root);
