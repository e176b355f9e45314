// Search, filters, the colour scheme and keys. Every page can be read without it.
"use strict";

const scheme = {
  get() { try { return localStorage.getItem("scheme"); } catch { return null; } },
  set(value) { try { localStorage.setItem("scheme", value); } catch { /* a page from disk may not keep it */ } },
};

function dark() {
  return document.documentElement.dataset.scheme
    ? document.documentElement.dataset.scheme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
}

function addSchemeButton() {
  if (scheme.get()) document.documentElement.dataset.scheme = scheme.get();
  const button = document.createElement("button");
  button.type = "button";
  button.className = "scheme";
  const say = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    document.documentElement.dataset.scheme = dark() ? "light" : "dark";
    scheme.set(document.documentElement.dataset.scheme);
    say();
  });
  say();
  document.querySelector("header.site").append(button);
}

function addSearch() {
  const filters = document.querySelector(".filters");
  if (!filters) return;
  filters.hidden = false;
  const search = filters.querySelector("#search");
  const menus = [...filters.querySelectorAll("[data-filter]")];
  const entries = [...document.querySelectorAll(".studies > li")];
  const found = filters.querySelector("#found");
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const fits = words.every(word => entry.dataset.words.includes(word))
        && menus.every(menu => !menu.value || entry.dataset[menu.dataset.filter] === menu.value);
      entry.hidden = !fits;
      shown += fits;
    }
    found.textContent = `${shown} of ${entries.length} studies`;
    const query = new URLSearchParams();
    if (search.value) query.set("search", search.value);
    for (const menu of menus) if (menu.value) query.set(menu.dataset.filter, menu.value);
    try { history.replaceState(null, "", query.size ? `#${query}` : "#studies"); } catch { /* from disk */ }
  };
  const given = new URLSearchParams(location.hash.slice(1));
  search.value = given.get("search") || "";
  for (const menu of menus) menu.value = given.get(menu.dataset.filter) || "";
  search.addEventListener("input", apply);
  for (const menu of menus) menu.addEventListener("change", apply);
  if (search.value || menus.some(menu => menu.value)) apply();
  else found.textContent = `${entries.length} studies`;
}

// "/" searches; the arrow keys turn the pages of a family.
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, [tabindex='0']")) return;
  const search = document.querySelector("#search");
  if (event.key === "/" && search) {
    event.preventDefault();
    search.focus();
  }
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`.neighbours a[rel=${rel}]`);
  if (link) link.click();
}

addSchemeButton();
addSearch();
document.addEventListener("keydown", onKey);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
