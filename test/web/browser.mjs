// A real browser, and a page of an application that opens WebSockets to a hub.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { chromium } from 'playwright-core';
import { patience } from './hub.mjs';

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Starts a headless Chromium. */
export const launch = () => chromium.launch({
  executablePath,
  timeout: patience,
  args: [
    '--no-sandbox', // a container has no user namespaces, and the page is ours
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});

/** Opens a context whose waits are as patient as those of the tests. */
export async function newContext(browser, options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(patience);
  return context;
}

/** The application's page: `clients` holds its sockets by name, with all that happened to them. */
function application() {
  window.clients = {};
  window.connect = (name, url, protocols = []) => new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols);
    const client = { socket, messages: [], closed: null };
    window.clients[name] = client;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => resolve(socket.protocol);
    socket.onerror = () => reject(new Error(`${name}: no connection to ${url}`));
    socket.onmessage = ({ data }) => client.messages.push(
      typeof data === 'string' ? { text: data } : { bytes: Array.from(new Uint8Array(data)) },
    );
    socket.onclose = ({ code, reason, wasClean }) => { client.closed = { code, reason, wasClean }; };
  });
}

/** Serves the application at an origin of its own, as applications have one. */
export async function serveApplication() {
  const html = `<!doctype html><meta charset="utf-8"><title>app</title><script>(${application})()</script>`;
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(html));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Opens a socket in the page; resolves, with its subprotocol, when onopen has fired. */
export const connect = (page, name, url, protocols) => page.evaluate(
  ([name, url, protocols]) => window.connect(name, url, protocols),
  [name, url, protocols],
);

/**
 * The messages of a socket, when there are at least n of them. Rejects when the socket is closed
 * with fewer.
 */
export async function messages(page, name, n) {
  await page.waitForFunction(([name, n]) => {
    const { messages, closed } = window.clients[name];
    return messages.length >= n || closed;
  }, [name, n]);
  const { messages, closed } = await page.evaluate((name) => {
    const { messages, closed } = window.clients[name];
    return { messages, closed };
  }, name);
  if (messages.length < n) throw new Error(`${name}: ${messages.length} messages of ${n}, and then ${JSON.stringify(closed)}`);
  return messages;
}

/** How a socket was closed, when it is. */
export async function closed(page, name) {
  await page.waitForFunction((name) => window.clients[name].closed !== null, name);
  return page.evaluate((name) => window.clients[name].closed, name);
}
