"use strict";
document.documentElement.classList.add("js");
const byId = (id) => document.getElementById(id);
const cards = [...document.querySelectorAll("#heldout .card")];
const valueOf = (id) => (byId(id) ? byId(id).value : "");

function filter() {
  const setting = document.querySelector("#heldout .decoding")?.value;
  const faulty = valueOf("faulty"), code = valueOf("code"), group = valueOf("group");
  const words = valueOf("search").trim().toLowerCase();
  let shown = 0;
  for (const card of cards) {
    const answers = [...card.querySelectorAll(".answer[data-natural]")].filter((a) => a.dataset.setting === setting);
    const suspects = answers.filter((a) => !["", "*"].includes(faulty) ? a.dataset.model === faulty : true);
    const bad = (a) => a.dataset.natural === "0";
    const has = (a) => a.dataset.codes.split(" ").includes(code);
    const fits =
      (!group || card.dataset.group === group) &&
      (!(faulty || code) || suspects.some((a) => (!faulty || bad(a)) && (!code || has(a)))) &&
      (!words || card.querySelector("h3").textContent.toLowerCase().includes(words) ||
        answers.some((a) => a.querySelector(".text").textContent.toLowerCase().includes(words)));
    card.hidden = !fits;
    shown += fits;
  }
  byId("count").textContent = shown === cards.length ? `${shown}개` : `${cards.length}개 중 ${shown}개`;
  byId("nothing").hidden = shown > 0;
}

for (const choice of document.querySelectorAll(".decoding")) {
  choice.addEventListener("change", () => {
    for (const other of document.querySelectorAll(".decoding")) other.value = choice.value;
    for (const answer of document.querySelectorAll(".answer")) answer.hidden = answer.dataset.setting !== choice.value;
    if (cards.length) filter();
  });
}
for (const id of ["faulty", "code", "group", "search"]) byId(id)?.addEventListener("input", filter);
