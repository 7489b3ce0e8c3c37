// Tells what a point is to a mouse, a finger and the arrow keys, and copies a recipe's line.
"use strict";
document.querySelectorAll(".chart").forEach(chart => {
  const marks = [...chart.querySelectorAll(".mark")], tip = chart.querySelector(".tip");
  const words = marks.map(mark => {
    const title = mark.querySelector("title"), text = title.textContent;
    title.remove(); // else the browser's own tip covers ours
    return text;
  });
  let place = -1, held = false;

  function show(number) {
    if (place >= 0) marks[place].classList.remove("seen");
    place = number;
    tip.hidden = number < 0;
    if (number < 0) return;
    marks[number].classList.add("seen");
    tip.textContent = words[number];
    const area = chart.getBoundingClientRect(), mark = marks[number].getBoundingClientRect();
    const room = area.width - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, mark.left + mark.width / 2 - area.left - tip.offsetWidth / 2))}px`;
    const below = mark.top - area.top < tip.offsetHeight + 12;
    tip.style.top = `${below ? mark.bottom - area.top + 10 : mark.top - area.top - tip.offsetHeight - 10}px`;
  }

  marks.forEach((mark, number) => {
    mark.addEventListener("pointerenter", () => held || show(number));
    mark.addEventListener("click", event => { held = true; show(number); event.stopPropagation(); });
  });
  chart.addEventListener("pointerleave", () => held || show(-1));
  chart.addEventListener("click", () => { held = false; show(-1); });
  const order = marks.map((mark, number) => number).sort((a, b) => {
    const [one, other] = [marks[a], marks[b]].map(mark => mark.getBoundingClientRect());
    return one.left - other.left || one.top - other.top;
  });
  chart.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const end = { Home: 0, End: order.length - 1 }[event.key];
    if (event.key === "Escape") { held = false; show(-1); return; }
    if (step === undefined && end === undefined) return;
    event.preventDefault();
    held = true;
    const now = place < 0 ? (step > 0 ? -1 : order.length) : order.indexOf(place);
    show(order[end ?? (now + step + order.length) % order.length]);
  });
  chart.addEventListener("blur", () => { held = false; show(-1); });
});

document.querySelectorAll(".command").forEach(command => {
  const button = document.createElement("button"), text = command.querySelector("pre").textContent;
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a page that is opened as a file may not, in some browsers
      getSelection().selectAllChildren(command.querySelector("pre"));
      if (!document.execCommand("copy")) { button.textContent = "Selected: press Ctrl-C"; return; }
      getSelection().removeAllRanges();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  command.prepend(button);
});
