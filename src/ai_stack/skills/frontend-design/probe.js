// Measures a rendered page: what is wider than it should be, cut off, too small or too faint.
() => {
  const found = [];
  let measured = 0, unmeasured = 0;
  const selector = element => {
    const parts = [];
    for (let one = element; one && one.nodeType === 1 && parts.length < 5; one = one.parentElement) {
      if (parts.length && one === document.documentElement) break;
      if (one.id) { parts.unshift('#' + CSS.escape(one.id)); break; }
      const name = one.localName;
      const same = one.parentElement ? [...one.parentElement.children].filter(c => c.localName === name) : [];
      parts.unshift(same.length > 1 ? `${name}:nth-of-type(${same.indexOf(one) + 1})` : name);
    }
    return parts.join(' > ');
  };
  const tell = (rule, element, detail) => found.push({rule, selector: selector(element), detail});
  const shown = element => {
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    return style.visibility !== 'hidden' && style.display !== 'none' && +style.opacity > 0.05
      && box.width > 0 && box.height > 0 && box.right > 0 && box.bottom + scrollY > 0
      && !element.closest('[hidden], [aria-hidden=true]') && element.checkVisibility();
  };
  const scrolls = element => {
    for (let one = element.parentElement; one; one = one.parentElement)
      if (one !== document.body && one !== document.documentElement
          && getComputedStyle(one).overflowX !== 'visible') return true;
    return false;
  };
  const parsed = text => {
    const numbers = (text.match(/[\d.]+/g) || []).map(Number);
    return text.startsWith('rgb') ? [...numbers.slice(0, 3), numbers[3] ?? 1] : null;
  };
  const over = (front, back) => [0, 1, 2].map(n => front[n] * front[3] + back[n] * (1 - front[3])).concat(1);
  const ground = element => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      if (style.backgroundImage !== 'none') return null;
      const colour = parsed(style.backgroundColor);
      if (!colour) return null;
      layers.push(colour);
      if (colour[3] === 1) break;
    }
    const base = matchMedia('(prefers-color-scheme: dark)').matches
      && getComputedStyle(document.documentElement).colorScheme.includes('dark')
      ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return layers.reduceRight((back, front) => over(front, back), base);
  };
  const luminance = colour => {
    const [r, g, b] = colour.slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const hex = colour => '#' + colour.slice(0, 3).map(v => Math.round(v).toString(16).padStart(2, '0')).join('');

  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 1) tell('overflow', document.documentElement, `the page is ${wide} px wider than the window`);
  const walked = [...document.body.querySelectorAll('*')].slice(0, 5000);
  for (const element of walked) {
    if (!shown(element)) continue;
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (box.right + scrollX > document.documentElement.clientWidth + 1 && !scrolls(element)
        && style.position !== 'fixed')
      tell('overflow', element, `ends ${Math.round(box.right - document.documentElement.clientWidth)} px beyond the window`);
    const cut = element.scrollWidth - element.clientWidth;
    if (['hidden', 'clip'].includes(style.overflowX) && cut > 1 && element.clientWidth > 1
        && [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
      tell('clipped', element, `${cut} px of its text are cut off`);
    if (element.matches('button, input:not([type=hidden]), select, textarea, [role=button]')
        && (box.width < 23.5 || box.height < 23.5))
      tell('target-size', element, `${Math.round(box.width)} x ${Math.round(box.height)} px; at least 24 x 24`);
  }
  const texts = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode() && texts.size < 5000) {
    const parent = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() && parent && !parent.closest('script, style, noscript, template'))
      texts.add(parent);
  }
  for (const element of texts) {
    if (!shown(element) || element.closest(':disabled')) continue;
    const style = getComputedStyle(element), back = ground(element), front = parsed(style.color);
    if (!back || !front) { unmeasured++; continue; }
    const range = document.createRange();
    range.selectNodeContents(element);
    const beyond = range.getBoundingClientRect().right + scrollX - document.documentElement.clientWidth;
    if (beyond > 1 && !scrolls(element) && style.overflowX === 'visible' && !element.children.length)
      tell('overflow', element, `its text ends ${Math.round(beyond)} px beyond the window`);
    measured++;
    const ink = over(front, back);
    const [low, high] = [luminance(ink), luminance(back)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(style.fontSize), bold = +style.fontWeight >= 700;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    if (ratio < needed - 0.005)
      tell('contrast', element, `${ratio.toFixed(2)}:1 of ${hex(ink)} on ${hex(back)}; ${needed}:1 needed`);
  }
  return {found, measured, unmeasured};
}
