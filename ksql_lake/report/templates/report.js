"use strict";
(() => {
  const list = document.getElementById("feed-list");
  if (!list) return;
  const feeds = [...list.querySelectorAll("details.feed")];
  const links = new Map([...document.querySelectorAll("nav a[data-feed]")].map((a) => [a.dataset.feed, a]));
  const box = document.getElementById("search");
  const count = document.getElementById("shown");
  const chips = [...document.querySelectorAll("button[data-filter]")];
  const heads = [...document.querySelectorAll("button[data-sort]")];
  const more = document.getElementById("more");
  const first = 50;
  let state = "";
  let all = false;

  const show = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const feed of feeds) {
      const fits = (!state || feed.dataset.state === state) && words.every((word) => feed.dataset.text.includes(word));
      shown += fits ? 1 : 0;
      feed.hidden = !fits || (!all && shown > first);
      const link = links.get(feed.dataset.name);
      if (link) link.hidden = !fits;
    }
    count.textContent = shown === feeds.length ? `${shown}` : `${shown} of ${feeds.length}`;
    more.hidden = all || shown <= first;
    more.textContent = `Show all ${shown}`;
    document.getElementById("nothing").hidden = shown > 0;
  };

  const sort = (key, down) => {
    const number = key !== "name";
    const value = (feed) => (number ? Number(feed.dataset[key]) : feed.dataset.name);
    feeds.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = x < y ? -1 : x > y ? 1 : 0;
      return (down ? -order : order) || (a.dataset.name < b.dataset.name ? -1 : 1);
    });
    list.append(...feeds);
    for (const head of heads) {
      const own = head.dataset.sort === key;
      head.setAttribute("aria-pressed", own ? "true" : "false");
      head.dataset.order = own ? (down ? "down" : "up") : "";
    }
    show();
  };

  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.matches("details.feed")) return;
    if (target.hidden) {
      box.value = "";
      state = "";
      all = true;
      chips.forEach((chip) => chip.setAttribute("aria-pressed", chip.dataset.filter === "" ? "true" : "false"));
      show();
    }
    target.open = true;
    target.scrollIntoView();
  };

  box.addEventListener("input", show);
  more.addEventListener("click", () => {
    all = true;
    show();
  });
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      state = chip.dataset.filter;
      chips.forEach((each) => each.setAttribute("aria-pressed", each === chip ? "true" : "false"));
      show();
    });
  }
  for (const head of heads) {
    head.addEventListener("click", () => {
      const first = head.dataset.first === "down";
      sort(head.dataset.sort, head.dataset.order ? head.dataset.order === "up" : first);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== box) {
      event.preventDefault();
      box.focus();
    }
  });
  window.addEventListener("hashchange", open);
  document.documentElement.classList.add("scripted");
  show();
  open();
})();
