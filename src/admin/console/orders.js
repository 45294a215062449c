// What a person can say to the detector: opinions on anomalies, names of patterns, which model scores.

import { post } from "/console/api.js";
import { h, say, sure } from "/console/dom.js";

async function send(path, body, words) {
  try {
    await post(path, body);
    say(`${words}; the log says what became of it.`);
    return true;
  } catch (error) {
    say(`Not done: ${error.message}`, true);
    return false;
  }
}

// Promote, roll back, pin, retrain: only after a second thought.
export function order(label, body, question, isPrimary = false) {
  const act = async () => (await sure(question)) && send("/api/v1/commands", body, `${label}: taken`);
  return h("button", { onclick: act, class: isPrimary ? "primary" : null }, label);
}

const VERDICTS = [
  ["false_positive", "Ordinary", "Later models learn it as ordinary"],
  ["true_positive", "Anomaly", "An anomaly indeed: every later model must find it"],
  ["expected", "Expected", "Odd and known, as work on the plant: neither learnt nor held against a model"],
];

// The buttons of an anomaly; what was said last is pressed.
export function opinions(anomaly) {
  const note = h("input", { type: "text", "aria-label": "Why, in your words (optional)", placeholder: "why, in your words (optional)", maxlength: 500 });
  const buttons = VERDICTS.map(([verdict, label, title]) => {
    const tell = async (event) => {
      const body = { id: anomaly.id, source: anomaly.source, verdict };
      if (note.value.trim()) body.note = note.value.trim();
      const button = event.currentTarget;
      if (await send("/api/v1/feedback", body, `Noted as ${label.toLowerCase()}`)) {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      }
    };
    return h("button", { title, onclick: tell, "aria-pressed": "false" }, label);
  });
  return h("div", { class: "actions", role: "group", "aria-label": "What was it really?" }, h("span", {}, "What was it really?"), ...buttons, note);
}

// A pattern's name with a way to change it; `given` is the label that people gave, `name` what it is called without.
export function name(latent, name) {
  const shown = h("span", { class: "name", "data-latent": latent }, name);
  const place = h("span", { class: "rename" }, shown);
  const edit = () => {
    const input = h("input", { type: "text", maxlength: 60, "aria-label": `Name of pattern ${latent}` });
    input.value = shown.textContent;
    const close = () => place.replaceChildren(shown, button);
    const save = async () => {
      const label = input.value.trim();
      if (!(await send("/api/v1/commands", { command: "label", latent, label: label || null }, `Pattern ${latent} is renamed`))) return;
      if (label) for (const same of document.querySelectorAll(`[data-latent="${latent}"]`)) same.textContent = label;
      shown.textContent = label || shown.textContent;
      close();
      button.focus();
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") save();
      if (event.key === "Escape") {
        close();
        button.focus();
      }
    });
    place.replaceChildren(input, h("button", { onclick: save }, "Save"), h("button", { onclick: close }, "Cancel"));
    input.focus();
    input.select();
  };
  const button = h("button", { class: "quiet", onclick: edit, "aria-label": `Rename pattern ${latent}`, title: "Rename" }, "✎");
  place.append(button);
  return place;
}
