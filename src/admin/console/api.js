// Speaks to the daemon: requests with the token where one is needed, and the stream of events, which comes back by itself.

const KEY = "strayd-token";
const SILENCE_MS = 5000;

const byId = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
let asking = null;

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

// Asks for the token, once for all who wait for it; false when nobody gives one.
function askToken() {
  asking ??= new Promise((done) => {
    const [dialog, input] = [byId("ask-token"), byId("token")];
    let given = false;
    const use = () => {
      if (!input.value.trim()) return;
      sessionStorage.setItem(KEY, input.value.trim());
      given = true;
      dialog.close();
    };
    byId("token-use").onclick = use;
    byId("token-cancel").onclick = () => dialog.close();
    input.onkeydown = (event) => event.key === "Enter" && use();
    dialog.onclose = () => {
      input.value = "";
      asking = null;
      done(given);
    };
    dialog.showModal();
    input.focus();
  });
  return asking;
}

async function request(path, options = {}) {
  for (;;) {
    const response = await fetch(path, { ...options, headers: headers(options.headers) });
    if (response.status === 401) {
      sessionStorage.removeItem(KEY);
      if (await askToken()) continue;
    }
    return response;
  }
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `the server answered ${response.status}`);
  return body;
}

export const get = async (path) => answer(await request(path));

export const post = async (path, body) =>
  answer(await request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));

// One event of the stream, out of its lines.
function parse(block) {
  const event = { name: "message", data: [], id: null };
  for (const line of block.split("\n")) {
    const [field, ...rest] = line.split(":");
    const value = rest.join(":").replace(/^ /, "");
    if (field === "event") event.name = value;
    else if (field === "data") event.data.push(value);
    else if (field === "id") event.id = value;
  }
  return event;
}

// Listens for ever: `on.event(name, value)` for what happens, `on.open()` when it begins, `on.lost(why)` when it is over.
export async function listen(on) {
  let last = null;
  for (let tries = 0; ; tries += 1) {
    const ended = new AbortController();
    let watch = setTimeout(() => ended.abort(), SILENCE_MS);
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => ended.abort(), SILENCE_MS);
    };
    try {
      // `fetch`, as an EventSource sends no token.
      const more = last ? { "Last-Event-ID": last } : {};
      const response = await fetch("/api/v1/events", { headers: headers(more), signal: ended.signal });
      if (response.status === 401) {
        clearTimeout(watch);
        sessionStorage.removeItem(KEY);
        on.lost("this server shows nothing without its token");
        // Who has closed the question is asked again when they want to be.
        if (!(await askToken())) await new Promise((again) => on.lost("this server shows nothing without its token", again));
        continue;
      }
      if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `it answered ${response.status}`);
      on.open();
      tries = 0;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        alive();
        text += part.value;
        for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
          const event = parse(text.slice(0, end));
          text = text.slice(end + 2);
          last = event.id ?? last;
          if (event.data.length) on.event(event.name, JSON.parse(event.data.join("\n")));
        }
      }
      on.lost("the connection has ended");
    } catch (error) {
      on.lost(error.name === "AbortError" ? "it has been silent" : error.message);
    }
    clearTimeout(watch);
    await pause(Math.min(500 * (tries + 1), 3000));
  }
}
