// Time series: uPlot, with the same figures as a table for who cannot see a graph.
import uPlot from "../vendor/uplot.js";
import { NONE, clock, minute } from "./format.js";
import { html, useEffect, useLayoutEffect, useRef } from "./lib.js";
import { colour, theme } from "./theme.js";
import { t } from "./words.js";

const HEIGHT = 150;
const TABLE_ROWS = 16;

/**
 * `times`: Unix seconds. `series`: [{label, values, tone}] with a value or null for each time; `tone` is 1 to 4.
 * `format(value)`: how a value is written. All charts of a page move their cursor together.
 */
export function Chart({ title, times, series, format }) {
  const box = useRef();
  const plot = useRef(null);
  const labels = series.map((each) => each.label).join("\n");
  const data = [times, ...series.map((each) => each.values)];

  useLayoutEffect(() => {
    const made = new uPlot(options(series, format, box.current.clientWidth), data, box.current);
    plot.current = made;
    const watching = new ResizeObserver(() => made.setSize({ width: box.current.clientWidth, height: HEIGHT }));
    watching.observe(box.current);
    return () => {
      watching.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [labels, theme.value]);
  useEffect(() => plot.current?.setData(data), [times, series]);

  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    <div class="plot" ref=${box} role="img" aria-label=${t("chart.described", { title, latest: latest(series, format) })}></div>
    <details>
      <summary>${t("chart.table")}<span class="unseen"> ${title}</span></summary>
      <${Twin} title=${title} times=${times} series=${series} format=${format} />
    </details>
  </figure>`;
}

function options(series, format, width) {
  const text = colour("--pico-muted-color");
  const grid = { stroke: colour("--pico-muted-border-color"), width: 1 };
  return {
    width: width || 300,
    height: HEIGHT,
    cursor: { sync: { key: "gateway" }, y: false },
    legend: { live: true },
    scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] } },
    axes: [
      { stroke: text, grid, ticks: grid, space: 70, values: (_, marks) => marks.map(minute) },
      { stroke: text, grid, ticks: grid, size: 76, values: (_, marks) => marks.map(format) },
    ],
    series: [
      { value: (_, time) => (time ? clock(time * 1000) : NONE) },
      ...series.map((each, index) => ({
        label: each.label,
        stroke: colour(`--series-${each.tone ?? index + 1}`),
        width: 1.5,
        spanGaps: false,
        points: { show: false },
        value: (_, value) => (value === null || value === undefined ? NONE : format(value)),
      })),
    ],
  };
}

function latest(series, format) {
  return series.map(({ label, values }) => {
    const known = values.findLast((value) => value !== null && value !== undefined);
    return `${label} ${known === undefined ? NONE : format(known)}`;
  }).join(", ");
}

function Twin({ title, times, series, format }) {
  const step = Math.max(1, Math.ceil(times.length / TABLE_ROWS));
  const rows = times.map((_, index) => index).filter((index) => (times.length - 1 - index) % step === 0).reverse();
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${title}>
    <table>
      <caption class="unseen">${title}</caption>
      <thead><tr><th scope="col">${t("chart.time")}</th>${series.map((each) => html`<th key=${each.label} scope="col" class="number">${each.label}</th>`)}</tr></thead>
      <tbody>
        ${rows.map(
          (index) => html`<tr key=${times[index]}>
            <th scope="row">${clock(times[index] * 1000)}</th>
            ${series.map(({ label, values }) => html`<td key=${label} class="number">${values[index] === null || values[index] === undefined ? NONE : format(values[index])}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
