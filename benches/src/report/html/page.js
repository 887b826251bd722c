"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const controls = document.getElementById("controls");

  // Without this script the page shows everything, and no control that would do nothing.
  controls.hidden = false;

  // The theme: as the system has it, light, dark.
  const theme = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    theme.textContent = "Theme: " + next;
  });

  // Contestants and files are shown and hidden together wherever they stand.
  const off = new Set();
  const apply = () => {
    for (const element of all(".ser")) {
      element.classList.toggle("off", [...off].some((name) => element.classList.contains(name)));
    }
  };
  for (const box of all("#controls input[type=checkbox]")) {
    box.addEventListener("change", () => {
      if (box.checked) off.delete(box.value); else off.add(box.value);
      apply();
    });
  }
  document.getElementById("show-all").addEventListener("click", () => {
    off.clear();
    for (const box of all("#controls input[type=checkbox]")) box.checked = true;
    apply();
  });

  // The page's own copy of the data.
  const download = document.getElementById("download");
  download.addEventListener("click", () => {
    const blob = new Blob([document.getElementById("data").textContent], { type: "application/json" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = download.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // What a mark says when it is pointed at.
  const tip = document.getElementById("tip");
  const place = (event) => {
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const below = event.clientY + 18;
    const y = below + box.height > innerHeight ? event.clientY - box.height - 12 : below;
    tip.style.left = Math.max(4, x) + "px";
    tip.style.top = Math.max(4, y) + "px";
  };
  document.addEventListener("pointermove", (event) => {
    const mark = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    tip.hidden = !mark;
    if (mark) {
      tip.textContent = mark.dataset.tip;
      place(event);
    }
  });
  document.addEventListener("pointerleave", () => { tip.hidden = true; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  // On paper nothing is folded away.
  addEventListener("beforeprint", () => {
    for (const details of all("main details:not([open])")) {
      details.open = true;
      details.dataset.closed = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const details of all("details[data-closed]")) {
      details.open = false;
      delete details.dataset.closed;
    }
  });
})();
