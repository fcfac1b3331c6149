// Draws a bar for each ratio, as an SVG that reads well on light and dark pages.

const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/** @param rows `{name, ratio}`; 1 is the ceiling */
export function barChart(title, rows) {
  const [labelWidth, barWidth, rowHeight, top] = [230, 380, 26, 46];
  const height = top + rows.length * rowHeight + 14;
  const width = labelWidth + barWidth + 90;
  const scale = barWidth / Math.max(1, ...rows.map(({ ratio }) => ratio));
  const ceiling = labelWidth + scale;
  const bars = rows.map(({ name, ratio }, i) => {
    const y = top + i * rowHeight;
    return `  <text x="${labelWidth - 10}" y="${y + 15}" text-anchor="end">${escaped(name)}</text>
  <rect x="${labelWidth}" y="${y + 3}" width="${(ratio * scale).toFixed(1)}" height="16" rx="2" fill="#2f81f7"/>
  <text x="${(labelWidth + ratio * scale - 6).toFixed(1)}" y="${y + 15}" text-anchor="end" class="value">${ratio.toFixed(2)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">
  <style>text { font: 12px system-ui, sans-serif; fill: #59636e } .value { fill: #fff; font-weight: 600 } @media (prefers-color-scheme: dark) { text:not(.value) { fill: #9198a1 } }</style>
  <text x="${labelWidth}" y="18" font-weight="600">${escaped(title)}</text>
${bars.join('\n')}
  <line x1="${ceiling.toFixed(1)}" y1="${top - 12}" x2="${ceiling.toFixed(1)}" y2="${height - 10}" stroke="#cf222e" stroke-dasharray="4 3"/>
  <text x="${ceiling.toFixed(1)}" y="${top - 16}" text-anchor="middle">ceiling</text>
</svg>
`;
}
