"use strict";
const rows = [...document.querySelectorAll(".row")];
const modules = [...document.querySelectorAll("details.module")];
const search = document.getElementById("search");
const found = document.getElementById("found");
const texts = rows.map((row) => row.textContent.toLowerCase());
const initial = modules.map((module) => module.open);

// Every word must occur in a row; modules without such rows are hidden.
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  rows.forEach((row, i) => {
    row.hidden = !words.every((word) => texts[i].includes(word));
    count += row.hidden ? 0 : 1;
  });
  modules.forEach((module, i) => {
    module.hidden = words.length > 0 && !module.querySelector(".row:not([hidden])");
    module.open = words.length > 0 ? !module.hidden : initial[i];
  });
  found.textContent = words.length > 0 ? `${count} found` : "";
}

// A link to a value opens the modules around its row and marks it.
function follow() {
  const anchor = document.getElementById(location.hash.slice(1));
  const row = anchor && anchor.closest(".row");
  if (!row) return;
  document.querySelectorAll(".row.target").forEach((old) => old.classList.remove("target"));
  row.hidden = false;
  for (let at = row.parentElement; at; at = at.parentElement) {
    if (at.tagName === "DETAILS") { at.open = true; at.hidden = false; }
  }
  row.classList.add("target");
  row.scrollIntoView({ block: "center" });
}

search.addEventListener("input", filter);
document.getElementById("expand").addEventListener("click", () => modules.forEach((m) => { m.open = true; }));
document.getElementById("collapse").addEventListener("click", () => modules.forEach((m) => { m.open = false; }));
document.querySelectorAll(".ops button").forEach((button) => button.addEventListener("click", () => {
  search.value = button.textContent;
  filter();
}));
window.addEventListener("hashchange", follow);
follow();
