// The demo page of `connhub dev`: a connection, and the messages that arrive on it. Everything that
// came over the network is shown with textContent only.

const subprotocol = "json.connhub.v1";
const listLength = 200; // messages kept
const textShown = 20_000; // characters of a message
const bytesShown = 512; // of a binary message
const firstRetry = 1_000; // ms; doubles up to lastRetry
const lastRetry = 30_000;

const $ = (id) => document.getElementById(id);

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children); // strings become text nodes
  return element;
};

// ---- User and groups: the form and the URL say the same.

const whoFromURL = () => {
  const query = new URLSearchParams(location.search);
  return { user: query.get("user") ?? "", groups: query.getAll("group").filter((g) => g !== "") };
};

const queryOf = ({ user, groups }) => {
  const query = new URLSearchParams();
  if (user) query.set("user", user);
  for (const group of groups) query.append("group", group);
  return query.size ? `?${query}` : "";
};

let who = whoFromURL();

const fillForm = () => {
  $("user").value = who.user;
  $("groups").value = who.groups.join(", ");
};

$("you").addEventListener("submit", (event) => {
  event.preventDefault();
  const groups = $("groups").value.split(",").map((g) => g.trim()).filter((g) => g !== "");
  who = { user: $("user").value.trim(), groups: [...new Set(groups)] };
  history.pushState(null, "", location.pathname + queryOf(who));
  fillForm();
  connect();
});

addEventListener("popstate", () => {
  who = whoFromURL();
  fillForm();
  connect();
});

// ---- The connection.

let socket = null;
let connectionId = "";
let retryDelay = firstRetry;
let retryTimer = 0;

const setState = (state, text) => {
  $("state").dataset.state = state;
  $("state-text").textContent = text;
  $("retry").hidden = state !== "waiting";
};

const setConnection = (id) => {
  connectionId = id;
  $("connection").disabled = id === "";
  $("connection").textContent = id || "not connected";
  showCommands();
};

const connect = () => {
  clearTimeout(retryTimer);
  if (socket) {
    const old = socket;
    socket = null; // its events are ignored from here on
    old.close(1000);
  }
  setConnection("");
  setState("connecting", "connecting");

  const url = new URL(`/client/hubs/default${queryOf(who)}`, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const mine = (socket = new WebSocket(url, subprotocol));
  mine.addEventListener("message", (event) => {
    if (mine === socket) receive(event.data);
  });
  mine.addEventListener("close", (event) => {
    if (mine === socket) lost(event);
  });
};

const lost = (event) => {
  socket = null;
  if (connectionId !== "") {
    const why = [event.code === 1006 ? "" : event.code, event.reason].filter(Boolean).join(" ");
    addNotice(why ? `The hub closed the connection: ${why}` : "The connection was lost.");
  }
  setConnection("");
  const seconds = Math.round(retryDelay / 1000);
  setState("waiting", `not connected, next try in ${seconds} s`);
  retryTimer = setTimeout(connect, retryDelay * (0.8 + 0.4 * Math.random()));
  retryDelay = Math.min(retryDelay * 2, lastRetry);
};

$("retry").addEventListener("click", connect);
addEventListener("online", () => {
  if (!socket) connect();
});

// Numbers keep their digits where the browser can (JSON.rawJSON): 2^53 + 1 is shown as it was sent.
const keepDigits = (_, value, context) =>
  typeof value === "number" && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;

const receive = (frame) => {
  const message = JSON.parse(frame, keepDigits);
  switch (message.type) {
    case "connected":
      retryDelay = firstRetry;
      setConnection(message.connectionId);
      setState("connected", "connected");
      break;
    case "message":
      addMessage(message);
      break;
  }
};

// ---- Messages.

const routeText = (message) => {
  switch (message.route) {
    case "connection": return "to you";
    case "user": return `to user ${who.user}`;
    case "group": return `to group ${message.group}`;
    default: return `to ${message.route}`;
  }
};

const cut = (text) => {
  const more = text.length - textShown;
  return more > 0 ? `${text.slice(0, textShown)}\n… and ${more} more characters` : text;
};

const hex = (base64) => {
  const bytes = atob(base64);
  const shown = [...bytes.slice(0, bytesShown)].map((c) => c.charCodeAt(0).toString(16).padStart(2, "0"));
  const more = bytes.length - bytesShown;
  return shown.join(" ") + (more > 0 ? `\n… and ${more} more bytes` : "");
};

const typeText = ({ dataType, data }) => {
  if (dataType !== "binary") return dataType === "json" ? "JSON" : "text";
  const size = atob(data).length;
  return size === 1 ? "1 byte" : `${size} bytes`;
};

const bodyText = ({ dataType, data }) => {
  switch (dataType) {
    case "json": return cut(JSON.stringify(data, null, 2));
    case "binary": return hex(data);
    default: return cut(data);
  }
};

const addMessage = (message) => {
  const meta = make("div", { class: "meta" });
  meta.append(make("span", { class: "route", "data-route": message.route }, routeText(message)));
  if (message.event) meta.append(make("span", { class: "event" }, message.event));
  meta.append(make("span", { class: "soft" }, typeText(message)));
  if (message.from) meta.append(make("span", { class: "soft" }, `from ${message.from.user || message.from.connectionId}`));
  for (const [name, value] of Object.entries(message.metadata ?? {})) {
    meta.append(make("span", { class: "soft" }, `${name}=${value}`));
  }
  const now = new Date();
  meta.append(make("time", { datetime: now.toISOString(), title: message.id }, now.toLocaleTimeString()));

  const item = make("li", { "data-type": message.dataType, "data-id": message.id }, meta);
  const text = bodyText(message);
  // Long bodies scroll, so the keyboard must get there.
  if (text !== "") item.append(make("pre", text.length > 500 ? { tabindex: "0" } : {}, text));
  add(item);
  received++;
  showCount();
};

const addNotice = (text) => {
  add(make("li", { class: "notice" }, `${new Date().toLocaleTimeString()}  ${text}`));
};

let received = 0;

const add = (item) => {
  $("messages").prepend(item);
  while ($("messages").childElementCount > listLength) $("messages").lastElementChild.remove();
  $("empty").hidden = true;
  $("clear").hidden = false;
};

const showCount = () => {
  const shown = $("messages").childElementCount;
  $("count").textContent =
    received === 0 ? "none yet" : received > listLength ? `${received}, the last ${shown} shown` : `${received}`;
};

$("clear").addEventListener("click", () => {
  $("messages").replaceChildren();
  received = 0;
  showCount();
  $("empty").hidden = false;
  $("clear").hidden = true;
  $("messages-title").focus(); // the button that had it is gone
});

// ---- Commands to copy.

const quote = (word) => (/^[\w.,:@%+=/-]+$/.test(word) && !word.startsWith("-") ? word : `'${word.replaceAll("'", `'\\''`)}'`);

// flag joins a flag and a name so that a name with a leading dash is no flag.
const flag = (name, value) => (value.startsWith("-") ? `${name}=${quote(value)}` : `${name} ${quote(value)}`);

const showCommands = () => {
  const addr = document.documentElement.dataset.addr;
  const tail = addr ? ` --addr ${addr}` : "";
  const rows = [];
  if (connectionId) rows.push(["connection", "to you", `--connection ${connectionId}`, '"Just for you"']);
  if (who.user) rows.push(["user", `to user ${who.user}`, flag("--user", who.user), '"Hello"']);
  for (const group of who.groups) {
    rows.push(["group", `to group ${group}`, flag("--group", group), `--json-payload '{"score": 3}'`]);
  }
  rows.push(["everyone", "to everyone", "--everyone", '"Lunch is ready"']);

  $("commands").replaceChildren(...rows.map(([route, label, target, text]) => {
    const command = `connhub send ${target} ${text}${tail}`;
    const words = command.split(" ").flatMap((word) => [make("span", { class: "word" }, word), " "]);
    const button = make("button", { type: "button", class: "code", title: "Copy the command" }, ...words);
    button.addEventListener("click", () => copy(command, "Command copied"));
    return make("li", {}, make("span", { class: "route", "data-route": route }, label), button);
  }));
};

$("connection").addEventListener("click", () => copy(connectionId, "Connection id copied"));

let toastTimer = 0;

const copy = async (text, done) => {
  let said = done;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    said = "This browser does not let the page copy";
  }
  $("toast").textContent = said;
  $("toast").dataset.shown = "";
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => delete $("toast").dataset.shown, 1_800);
};

fillForm();
connect();
