/** The worker that all tabs of a browser share: it holds their one stream. Ends by itself with the last tab. */

import { StreamHub } from "./stream-hub.js";

const hub = new StreamHub();

addEventListener("connect", ({ ports: [port] }) => {
  const take = hub.attach(port);
  port.addEventListener("message", (event) => take(event.data));
  port.start();
});
