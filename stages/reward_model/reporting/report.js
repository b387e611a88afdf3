"use strict";
// Filters, search and keys of the list of pairs. Without it the page shows all of them.
const pairs = [...document.querySelectorAll("details.pair")];
const form = document.getElementById("filter");
if (form) {
  const field = (name) => document.getElementById(`filter-${name}`);
  const texts = new Map();
  const textOf = (pair) => {
    if (!texts.has(pair)) texts.set(pair, pair.textContent.toLowerCase());
    return texts.get(pair);
  };
  const shown = () => pairs.filter((pair) => !pair.hidden);
  const apply = () => {
    const text = field("text").value.trim().toLowerCase();
    const wanted = ["set", "source", "run", "rank"].filter(field).map((name) => [name, field(name).value]).filter(([, value]) => value);
    for (const pair of pairs) {
      pair.hidden = !wanted.every(([name, value]) => pair.dataset[name] === value) || (text && !textOf(pair).includes(text));
    }
    field("count").textContent = `${shown().length} of ${pairs.length} pairs.`;
  };
  const go = (step) => {
    const visible = shown();
    const current = visible.findIndex((pair) => pair.contains(document.activeElement));
    const next = visible[current < 0 && step < 0 ? visible.length - 1 : current + step];
    if (!next) return;
    if (current >= 0) visible[current].open = false;
    next.open = true;
    next.firstElementChild.focus();
    next.scrollIntoView({ block: "start" });
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    const action = { j: () => go(1), k: () => go(-1), "/": () => field("text").focus() }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  apply();
}
