"use strict";
// Language and theme of a page: Korean and what the system prefers, until the reader chooses; the choice is kept in this browser.
const root = document.documentElement;
root.classList.add("js");
const kept = (key) => { try { return localStorage.getItem(`align_ko.${key}`); } catch { return null; } };
const keep = (key, value) => { try { localStorage.setItem(`align_ko.${key}`, value); } catch { /* a file:// page may have no storage */ } };

function speak(language) {
  root.lang = language;
  for (const one of document.querySelectorAll("[data-en]")) {  // where no second element fits: <option>, <title>, an attribute
    const key = one.tagName === "INPUT" ? "placeholder" : one.title ? "title" : one.ariaLabel ? "ariaLabel" : "textContent";
    one.dataset.ko ??= one[key];
    one[key] = one.dataset[language];
  }
}

function paint(theme) { if (theme) root.dataset.theme = theme; }

paint(kept("theme"));
root.lang = kept("language") === "en" ? "en" : "ko";
addEventListener("DOMContentLoaded", () => {
  if (root.lang === "en") speak("en");
  const choice = { language: () => (root.lang === "en" ? "ko" : "en"),
    theme: () => ((root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark" ? "light" : "dark") };
  for (const [key, set] of [["language", speak], ["theme", paint]]) {
    document.getElementById(key).addEventListener("click", () => { const next = choice[key](); keep(key, next); set(next); });
  }
});
