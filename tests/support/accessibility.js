// Returns what is wrong with a page, as texts: names, labels, headings, landmarks, ids, table heads, contrast.
() => {
  const found = [];
  const say = (text, element) => found.push(`${text}: ${element.outerHTML.slice(0, 120)}`);
  const visible = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const text = (element) => (element.textContent || "").trim();
  const name = (element) => {
    const by = (element.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean);
    const labels = element.labels ? [...element.labels].map(text).join(" ") : "";
    return element.getAttribute("aria-label") || by.map((id) => text(document.getElementById(id))).join(" ") ||
      labels || element.getAttribute("alt") || text(element) || element.getAttribute("title") || "";
  };
  if (!document.documentElement.lang) found.push("the page has no language");
  if (!document.title.trim()) found.push("the page has no title");
  if (document.querySelectorAll("main").length !== 1) found.push("the page needs exactly one main");
  if (document.querySelectorAll("h1").length !== 1) found.push("the page needs exactly one h1");
  let level = 0;
  for (const heading of document.querySelectorAll("h1,h2,h3,h4,h5,h6")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) say(`a heading skips from h${level} to h${own}`, heading);
    if (!text(heading)) say("a heading without text", heading);
    level = own;
  }
  const ids = new Set();
  for (const element of document.querySelectorAll("[id]")) {
    if (ids.has(element.id)) say("an id occurs twice", element);
    ids.add(element.id);
  }
  for (const element of document.querySelectorAll("[aria-labelledby],[aria-describedby],[aria-controls]"))
    for (const key of ["aria-labelledby", "aria-describedby", "aria-controls"])
      for (const id of (element.getAttribute(key) || "").split(/\s+/).filter(Boolean))
        if (!document.getElementById(id)) say(`${key} names nothing`, element);
  for (const link of document.querySelectorAll("a[href^='#']"))
    if (!document.getElementById(link.getAttribute("href").slice(1))) say("a link leads nowhere", link);
  const named = "a[href],button,input:not([type=hidden]),select,textarea,summary,img,svg[role=img],nav,[role=region],[role=group]";
  for (const element of document.querySelectorAll(named))
    if (visible(element) && !name(element)) say("an element without a name", element);
  for (const svg of document.querySelectorAll("svg"))
    if (visible(svg) && svg.getAttribute("role") !== "img" && svg.getAttribute("aria-hidden") !== "true" && !svg.closest("[aria-hidden=true]"))
      say("a picture that is neither named nor hidden", svg);
  for (const cell of document.querySelectorAll("th")) if (!cell.scope) say("a table head without scope", cell);
  for (const element of document.querySelectorAll("*")) {
    const style = getComputedStyle(element);
    if (!/(auto|scroll)/.test(style.overflowX + style.overflowY) || !visible(element)) continue;
    const scrolls = element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1;
    if (scrolls && element.tabIndex < 0 && !element.querySelector("a[href],button,input,select,textarea,[tabindex='0']"))
      say("a region that scrolls, but not by keyboard", element);
  }
  const parse = (colour) => {
    const [r, g, b, a = 1] = (colour.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return { r, g, b, a };
  };
  const over = (top, below) => {
    const mix = (key) => top[key] * top.a + below[key] * (1 - top.a);
    return { r: mix("r"), g: mix("g"), b: mix("b"), a: 1 };
  };
  const light = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((value) => value / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (a, b) => {
    const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const backgroundOf = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.a > 0) layers.push(colour);
      if (colour.a === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  // Text in a picture stands on the rectangle that was drawn before it in the same group, if it lies inside.
  const behind = (element) => {
    const box = element.getBoundingClientRect();
    const rects = [...(element.parentElement?.querySelectorAll(":scope > rect") || [])].filter((rect) => {
      const own = rect.getBoundingClientRect();
      return own.left <= box.left + 1 && own.right >= box.right - 1 && own.top <= box.top + 3 && own.bottom >= box.bottom - 3;
    });
    return rects.length ? parse(getComputedStyle(rects.at(-1)).fill) : backgroundOf(element.closest("svg"));
  };
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || seen.has(element) || element.closest("script,style,title") || !visible(element)) continue;
    seen.add(element);
    const style = getComputedStyle(element);
    const inPicture = element instanceof SVGElement;
    const below = inPicture ? behind(element) : backgroundOf(element);
    const colour = over(parse(inPicture ? style.fill : style.color), below);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const contrast = ratio(colour, below);
    if (contrast < (large ? 3 : 4.5)) say(`contrast ${contrast.toFixed(2)}`, element);
  }
  return [...new Set(found)];
};
