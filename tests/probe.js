// Runs inside the page, in a frame of the width that is asked for, and tells the outer page.
addEventListener('load', () => {
  const near = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const overlaps = [], outside = [];
  for (const svg of document.querySelectorAll('svg.plot')) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent);
    texts.forEach((text, i) => {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1)
        outside.push(text.textContent);
      for (const other of texts.slice(i + 1))
        if (near(box, other.getBoundingClientRect())) overlaps.push(text.textContent + ' / ' + other.textContent);
    });
  }
  const scrolling = [document.documentElement, ...document.querySelectorAll('.scroll')]
    .filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText.slice(0, 40));
  parent.postMessage(JSON.stringify({
    title: document.title, text: document.body.innerText,
    plots: document.querySelectorAll('svg.plot').length, scrolling, overlaps, outside,
    resources: performance.getEntriesByType('resource').map(entry => entry.name),
    paper: getComputedStyle(document.body).backgroundColor,
  }), '*');
});
