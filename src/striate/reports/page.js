// Tables that sort, a network that folds, a confusion matrix that shows its pictures. Names only ever become
// text, by textContent: nothing in the data is read as HTML.

const element = (name, text = "", attributes = {}) => {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", head.textContent, { type: "button" });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      // Numbers are first wanted with the largest on top, names from A on.
      const usual = head.classList.contains("number") ? "descending" : "ascending";
      const other = usual === "descending" ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === usual ? other : usual;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sortRows(table.tBodies[0], column, order === "ascending" ? 1 : -1);
    });
  });
}

function sortRows(body, column, sign) {
  const names = new Intl.Collator(undefined, { numeric: true });
  const rows = [...body.rows].map((row) => {
    const cell = row.cells[column];
    const number = cell.dataset.order;
    return { row, number: number === undefined ? null : Number(number), text: cell.textContent };
  });
  rows.sort((one, two) => {
    const isNumber = one.number !== null && two.number !== null;
    return sign * (isNumber ? one.number - two.number : names.compare(one.text, two.text));
  });
  body.append(...rows.map(({ row }) => row));
}

const OPENED_ROWS = 40; // a network of up to so many rows begins unfolded

function makeFoldable(table) {
  const rows = [...table.tBodies[0].rows];
  const startsOpen = rows.length <= OPENED_ROWS;
  for (const row of rows) {
    if (!("opens" in row.dataset)) continue;
    const head = row.cells[0];
    const button = element("button", head.textContent, { type: "button", "aria-expanded": String(startsOpen) });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") !== "true"));
      fold(rows);
    });
  }
  fold(rows);
}

function fold(rows) {
  let closed = Infinity; // depth of the closed row that the next ones lie in
  for (const row of rows) {
    const depth = Number(row.dataset.depth);
    if (depth <= closed) closed = Infinity;
    row.hidden = depth > closed;
    const button = row.querySelector("button");
    if (!row.hidden && button?.getAttribute("aria-expanded") === "false") closed = depth;
  }
}

function figureOf(picture) {
  const figure = element("figure");
  const shown = element("div", "", { class: "shown" });
  for (const image of picture.images) {
    shown.append(element("img", "", image));
  }
  const caption = element("figcaption");
  caption.append(...picture.lines.map((line) => element("span", line)));
  caption.append(element("span", picture.key, { class: "key-name", title: picture.key }));
  figure.append(shown, caption);
  return figure;
}

function makeBrowsable(store) {
  const data = JSON.parse(store.textContent);
  const panel = document.getElementById("cell-pictures");
  const [title, list] = panel.children;
  const buttons = [...document.querySelectorAll("[data-cell]")];
  let opened = null;
  const show = (button) => {
    const cell = data.cells[button.dataset.cell];
    title.textContent = cell.title;
    list.replaceChildren(...cell.pictures.map((place) => {
      const item = element("li");
      item.append(figureOf(data.pictures[place]));
      return item;
    }));
    opened?.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-expanded", "true");
    opened = button;
    panel.hidden = false;
    title.focus();
    panel.scrollIntoView({ block: "nearest" });
  };
  const close = () => {
    panel.hidden = true;
    opened?.setAttribute("aria-expanded", "false");
    opened?.focus();
    opened = null;
  };
  buttons.forEach((button) => {
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", panel.id);
    button.addEventListener("click", () => show(button));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && opened) close();
  });
  const matrix = document.querySelector("table.confusion");
  if (matrix) makeRoving(matrix);
}

// One stop for Tab in the whole matrix; arrows go from cell to cell.
function makeRoving(table) {
  const buttons = [...table.querySelectorAll("button")];
  if (!buttons.length) return;
  const place = (button) => button.dataset.cell.split(",").map(Number);
  const focusable = (button) => buttons.forEach((each) => { each.tabIndex = each === button ? 0 : -1; });
  const wrong = buttons.find((button) => button.closest("td").classList.contains("wrong"));
  focusable(wrong ?? buttons[0]);
  const steps = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [1, -1], ArrowRight: [1, 1] };
  table.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step || !event.target.dataset.cell) return;
    const [axis, sign] = step;
    const from = place(event.target);
    const ahead = buttons
      .map((button) => [button, place(button)])
      .filter(([, to]) => to[1 - axis] === from[1 - axis] && (to[axis] - from[axis]) * sign > 0)
      .sort(([, one], [, two]) => (one[axis] - two[axis]) * sign);
    if (ahead.length) {
      focusable(ahead[0][0]);
      ahead[0][0].focus();
    }
    event.preventDefault();
  });
  table.addEventListener("focusin", (event) => {
    if (event.target.dataset.cell) focusable(event.target);
  });
}

document.querySelectorAll("table[data-sortable]").forEach(makeSortable);
document.querySelectorAll("table.network").forEach(makeFoldable);
const cells = document.getElementById("cells");
if (cells) makeBrowsable(cells);
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
});
