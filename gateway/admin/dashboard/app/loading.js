// Reading from the API in a page: one value that is asked for again when its inputs change or something happens.
import { useEffect, useRef, useSignal } from "./lib.js";
import { onEvents } from "./live.js";

/** Ask `read(signal)` now, whenever `inputs` change, when events of the kinds `on` happen, and every `every` ms.
 * Gives {value, problem, busy, reload}: signals; the last value stays while the next is awaited. */
export function useLoaded(read, inputs = [], { on = [], every = 0 } = {}) {
  const value = useSignal(undefined);
  const problem = useSignal(null);
  const busy = useSignal(true);
  const current = useRef(null);
  const reading = useRef(read);
  reading.current = read;

  const reload = useRef(async () => {
    current.current?.abort();
    const mine = new AbortController();
    current.current = mine;
    busy.value = true;
    try {
      const found = await reading.current(mine.signal);
      if (mine.signal.aborted) return;
      value.value = found;
      problem.value = null;
    } catch (error) {
      if (!mine.signal.aborted) problem.value = error;
    } finally {
      if (current.current === mine) busy.value = false;
    }
  }).current;

  useEffect(() => {
    reload();
    const unsubscribe = on.length ? onEvents(on, reload) : null;
    const timer = every ? setInterval(() => document.hidden || reload(), every) : null;
    return () => {
      unsubscribe?.();
      clearInterval(timer);
      current.current?.abort();
    };
  }, inputs);
  return { value, problem, busy, reload };
}

/** A number that grows every so many ms while the page is looked at: `version` of a PagedTable whose figures move. */
export function useTicks(every) {
  const ticks = useSignal(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || (ticks.value += 1), every);
    return () => clearInterval(timer);
  }, [every]);
  return ticks.value;
}
