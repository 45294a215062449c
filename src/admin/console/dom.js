// Makes elements. Everything that is shown is text: records come from strangers, and nothing here reads markup.

export const byId = (id) => document.getElementById(id);

// h("button", { class: "primary", onclick: act }, "Yes")
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

export function table(caption, titles, rows) {
  const head = h("tr", {}, ...titles.map((title) => h("th", { scope: "col" }, title)));
  const cells = (row) => row.map((cell, i) => h("td", { "data-title": titles[i] }, cell));
  return h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, ...rows.map((row) => h("tr", {}, ...cells(row)))));
}

// Pairs of a definition list.
export const pairs = (entries) => entries.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value ?? "–")]);

// Replaces what an element shows, where that has changed: what somebody has opened or is writing in stays.
const shown = new WeakMap();
export function show(element, value, make) {
  const text = JSON.stringify(value);
  if (shown.get(element) === text) return;
  shown.set(element, text);
  element.replaceChildren(...make(value));
}

export const when = (text) => h("time", { datetime: text }, new Date(text).toLocaleString());

export const value = (one) => (one === null ? "missing" : typeof one === "number" ? Number(one.toPrecision(5)).toString() : String(one));

let timer = null;
export function say(text, isBad = false) {
  const said = byId("said");
  said.textContent = text;
  said.className = isBad ? "bad" : "good";
  clearTimeout(timer);
  timer = setTimeout(() => (said.textContent = ""), 8000);
}

export function sure(what) {
  const dialog = byId("ask-sure");
  byId("sure-what").textContent = what;
  return new Promise((done) => {
    let yes = false;
    byId("sure-yes").onclick = () => {
      yes = true;
      dialog.close();
    };
    byId("sure-no").onclick = () => dialog.close();
    dialog.onclose = () => done(yes);
    dialog.showModal();
  });
}
