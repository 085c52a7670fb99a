addEventListener("DOMContentLoaded", () => {
  const byId = (id) => document.getElementById(id);
  const valueOf = (id) => byId(id)?.value ?? "";
  // what the filter asks of each card, read once: 1,000 answers are then filtered without a look at the page
  const cards = [...document.querySelectorAll("#heldout .card")].map((card) => ({
    card, group: card.dataset.group, asked: card.querySelector("h3").textContent.toLowerCase(),
    answers: [...card.querySelectorAll(".answer")].map((answer) => ({
      answer, ...answer.dataset, given: "natural" in answer.dataset, codes: (answer.dataset.codes ?? "").split(" "),
      text: (answer.querySelector(".text")?.textContent ?? "").toLowerCase(),
    })),
  }));

  function filter() {
    const setting = document.querySelector(".decoding")?.value, model = valueOf("model"), beside = byId("beside")?.checked;
    const code = valueOf("code"), group = valueOf("group"), words = valueOf("search").trim().toLowerCase();
    const fits = (one) =>
      one.given && one.setting === setting && (!model || one.model === model) &&
      (!code || (code === "none" ? one.natural === "1" : code === "any" ? one.natural === "0" : one.codes.includes(code.slice(3))));
    let shown = 0;
    for (const each of cards) {
      const found = each.answers.filter(fits);
      const has = !words || each.asked.includes(words) || found.some((one) => one.text.includes(words));
      each.card.hidden = !((found.length || !(model || code)) && (!group || each.group === group) && has);
      shown += !each.card.hidden;
      for (const one of each.answers) {
        one.answer.hidden = one.setting !== setting || Boolean(model && !beside && one.model !== model);
      }
    }
    byId("count").textContent = shown === cards.length ? `${shown}` : `${shown} / ${cards.length}`;
    byId("nothing").hidden = shown > 0;
  }

  for (const choice of document.querySelectorAll(".decoding")) {
    choice.addEventListener("change", () => {
      for (const other of document.querySelectorAll(".decoding")) other.value = choice.value;
      for (const answer of document.querySelectorAll(".answer")) answer.hidden = answer.dataset.setting !== choice.value;
      if (cards.length) filter();
    });
  }
  for (const id of ["model", "code", "group", "search", "beside"]) byId(id)?.addEventListener("input", filter);
});
