// Lists. `PagedTable` reads a list of the API a page at a time as one scrolls and draws the rows that can be seen, so
// that 10,000 devices cost what 30 do. `SimpleTable` is for what is short and whole.
import { api } from "./api.js";
import { Busy, Empty, ProblemBox } from "./form.js";
import { html, useEffect, useLayoutEffect, useRef, useSignal } from "./lib.js";
import { onEvents } from "./live.js";
import { t } from "./words.js";

const PAGE = 100;
const MOST = 1000;
/** Pixels; app.css gives rows of a PagedTable this height. */
const ROW = 40;
const AROUND = 8;

/**
 * `path`, `params`: the list. `columns`: [{key, label, cell(row), sort?, number?}]; `sort` is the API's name.
 * `sort`, `onSort(sort)`: the order now ("-rtt") and its change. `rowKey(row)`. `on`: kinds of events after which it is
 * read again. `version`: read again when it changes. `select`: a signal of a Set of keys, for bulk actions.
 */
export function PagedTable({ path, params = {}, columns, caption, rowKey, empty, sort, onSort, on = [], version, select }) {
  const rows = useSignal([]);
  const next = useSignal(null);
  const busy = useSignal(true);
  const problem = useSignal(null);
  const first = useSignal(0);
  const height = useSignal(600);
  const scroller = useRef();
  const reading = useRef(null);
  const asked = JSON.stringify([path, params, sort]);

  async function read(limit, cursor) {
    reading.current?.abort();
    const mine = new AbortController();
    reading.current = mine;
    busy.value = true;
    try {
      const page = await api.get(path, { ...params, sort, limit, cursor }, { signal: mine.signal });
      if (mine.signal.aborted) return;
      rows.value = cursor ? rows.peek().concat(page.data) : page.data;
      next.value = page.meta.next;
      problem.value = null;
    } catch (error) {
      if (!mine.signal.aborted) problem.value = error;
    } finally {
      if (reading.current === mine) busy.value = false;
    }
  }
  const again = () => read(Math.min(MOST, Math.max(PAGE, rows.peek().length)));

  useEffect(() => {
    first.value = 0;
    if (scroller.current) scroller.current.scrollTop = 0;
    read(PAGE);
    return () => reading.current?.abort();
  }, [asked]);
  useEffect(() => {
    if (version !== undefined && rows.peek().length) again();
  }, [version]);
  // Not while somebody reads far below: what is read again is the first MOST rows.
  useEffect(() => (on.length ? onEvents(on, () => rows.peek().length <= MOST && !busy.peek() && again()) : undefined), [asked]);
  useLayoutEffect(() => {
    const element = scroller.current;
    const seen = () => (height.value = element.clientHeight || 600);
    const watching = new ResizeObserver(seen);
    watching.observe(element);
    return () => watching.disconnect();
  }, []);

  function scrolled() {
    first.value = Math.max(0, Math.floor(scroller.current.scrollTop / ROW) - AROUND);
    const end = first.value + Math.ceil(height.value / ROW) + 3 * AROUND;
    if (end >= rows.value.length && next.value && !busy.value) read(PAGE * 2, next.value);
  }

  const all = rows.value;
  const from = Math.min(first.value, Math.max(0, all.length - 1));
  const to = Math.min(all.length, from + Math.ceil(height.value / ROW) + 2 * AROUND);
  const shown = all.slice(from, to);
  const whole = !next.value;
  const keys = select ? shown.map(rowKey) : [];
  return html`<div class="paged">
    <${ProblemBox} problem=${problem.value} />
    <div class="rows" ref=${scroller} tabindex="0" role="region" aria-label=${caption} onScroll=${scrolled}>
      <table aria-rowcount=${whole ? all.length + 1 : -1} aria-busy=${busy.value ? "true" : "false"}>
        <caption class="unseen">${caption}</caption>
        <thead>
          <tr aria-rowindex="1">
            ${select && html`<th scope="col"><span class="unseen">${t("table.select")}</span></th>`}
            ${columns.map((column) => html`<${Head} key=${column.key} column=${column} sort=${sort} onSort=${onSort} />`)}
          </tr>
        </thead>
        <tbody>
          ${from > 0 && html`<tr class="gap" aria-hidden="true"><td style=${{ height: `${from * ROW}px` }}></td></tr>`}
          ${shown.map(
            (row, index) => html`<tr key=${rowKey(row)} aria-rowindex=${from + index + 2}>
              ${select && html`<td><${Tick} of=${keys[index]} select=${select} /></td>`}
              ${columns.map((column) => html`<td key=${column.key} class=${column.number ? "number" : null}>${column.cell ? column.cell(row) : row[column.key]}</td>`)}
            </tr>`,
          )}
          ${to < all.length && html`<tr class="gap" aria-hidden="true"><td style=${{ height: `${(all.length - to) * ROW}px` }}></td></tr>`}
        </tbody>
      </table>
      ${!busy.value && !problem.value && all.length === 0 && html`<${Empty}>${empty ?? t("table.nothing")}</${Empty}>`}
      ${busy.value && all.length === 0 && html`<${Busy} />`}
    </div>
    <p class="foot">
      ${whole ? t("table.all", { n: all.length }) : t("table.more", { n: all.length })}
      ${!whole && html` <button type="button" class="small secondary" onClick=${() => read(MOST, next.value)}>${t("table.load")}</button>`}
    </p>
  </div>`;
}

function Head({ column, sort, onSort }) {
  const descending = sort === `-${column.sort}`;
  const sorted = column.sort && (descending || sort === column.sort);
  const label = html`${column.label}${sorted ? html`<span aria-hidden="true">${descending ? " ↓" : " ↑"}</span>` : ""}`;
  return html`<th scope="col" class=${column.number ? "number" : null} aria-sort=${sorted ? (descending ? "descending" : "ascending") : null}>
    ${column.sort && onSort
      ? html`<button type="button" class="sort" onClick=${() => onSort(sorted && !descending ? `-${column.sort}` : column.sort)}>${label}</button>`
      : label}
  </th>`;
}

function Tick({ of, select }) {
  const change = (event) => {
    const chosen = new Set(select.value);
    if (event.currentTarget.checked) chosen.add(of);
    else chosen.delete(of);
    select.value = chosen;
  };
  return html`<input type="checkbox" aria-label=${t("table.selectRow", { name: of })} checked=${select.value.has(of)} onChange=${change} />`;
}

/** A short list as it is. `columns` as above. */
export function SimpleTable({ rows, columns, caption, rowKey, empty }) {
  if (!rows.length) return html`<${Empty}>${empty ?? t("table.nothing")}</${Empty}>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}>
    <table>
      <caption class="unseen">${caption}</caption>
      <thead>
        <tr>${columns.map((column) => html`<th key=${column.key} scope="col" class=${column.number ? "number" : null}>${column.label}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map(
          (row, index) => html`<tr key=${rowKey ? rowKey(row) : index}>
            ${columns.map((column) => html`<td key=${column.key} class=${column.number ? "number" : null}>${column.cell ? column.cell(row) : row[column.key]}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
