// What a dashboard's queries answer: variables filled in as Grafana fills them, then asked of a Prometheus.
// Used by draw.mjs; knows nothing of pictures.

/** Variables by name, each "All" or its first choice; `given` (name to value) goes before. */
export function variables(dashboard, given = {}) {
  const values = {};
  for (const variable of dashboard.templating.list) {
    const all = variable.includeAll ? variable.allValue || ".*" : undefined;
    values[variable.name] = given[variable.name] ?? all ?? variable.current?.value ?? variable.query ?? "";
  }
  return values;
}

/** `text` with ${name}, ${name:format} and $name replaced. */
export function fill(text, values) {
  return text.replace(/\$\{(\w+)(?::\w+)?\}|\$(\w+)/g, (whole, braced, plain) => {
    const name = braced ?? plain;
    return name in values ? String(values[name]) : whole;
  });
}

async function ask(url, path, parameters) {
  const answer = await fetch(`${url}/api/v1/${path}`, { method: "POST", body: new URLSearchParams(parameters) });
  const body = await answer.json();
  if (body.status !== "success") throw new Error(`${parameters.query}: ${body.error}`);
  return body.data.result;
}

/** One answer a target: `{refId, legend, format, series: [{labels, points: [[ms, number]]}]}`. */
export async function answers(panel, { url, from, to, width, scrape, values }) {
  const points = Math.max(100, Math.min(panel.maxDataPoints ?? width, 1500));
  const step = Math.max(Math.ceil((to - from) / points / 5) * 5, scrape);
  const rate = Math.max(step + scrape, 4 * scrape);
  const all = { ...values, __interval: `${step}s`, __rate_interval: `${rate}s`, __range: `${Math.round(to - from)}s` };
  return Promise.all(
    (panel.targets ?? []).map(async (target) => {
      const query = fill(target.expr, all);
      const result = target.instant
        ? await ask(url, "query", { query, time: to })
        : await ask(url, "query_range", { query, start: from, end: to, step });
      const series = result.map((one) => ({
        labels: one.metric,
        points: (one.values ?? [one.value]).map(([at, value]) => [at * 1000, Number(value)]),
      }));
      return { refId: target.refId, legend: target.legendFormat, format: target.format, step: step * 1000, series };
    }),
  );
}
