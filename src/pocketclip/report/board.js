// Sorts the board by a column: a click or the Enter key on its head, again for the other way round.
"use strict";
const table = document.querySelector(".board"), body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];

function key(row, column) {
  const cell = row.cells[column];
  if (column === 0) return cell.textContent.trim().toLowerCase();
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

function sortBy(column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...body.rows].map(row => [key(row, column), row]);
  rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * (a > b ? 1 : a < b ? -1 : 0));
  body.append(...rows.map(([, row]) => row));
  heads.forEach((head, place) => place === column ? head.setAttribute("aria-sort", direction) : head.removeAttribute("aria-sort"));
  document.getElementById("sorted").textContent = `Sorted by ${heads[column].querySelector("button").textContent.trim()}, ${direction}.`;
}

heads.forEach((head, column) => {
  if (!head.dataset.sortable) return;
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  const first = head.dataset.sortable === "score" ? "descending" : "ascending";
  const other = first === "descending" ? "ascending" : "descending";
  button.addEventListener("click", () => sortBy(column, head.getAttribute("aria-sort") === first ? other : first));
});
