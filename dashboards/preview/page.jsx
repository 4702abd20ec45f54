// The page that is photographed: a dashboard's panels, laid out as Grafana does, drawn by Grafana's components.
//
// Each panel goes through Grafana's own steps: data frames, transformations, field configuration (units, decimals,
// thresholds, mappings, overrides), then the component of its type. `window.given` is set by draw.mjs.

import {
  applyFieldOverrides, createTheme, FieldConfigOptionsRegistry, FieldType, getDisplayValueAlignmentFactors,
  getFieldDisplayName, getFieldDisplayValues, renderMarkdown, standardTransformers, standardTransformersRegistry,
  dateTime, ThemeContext, toDataFrame, transformDataFrame, VizOrientation,
} from "@grafana/data";
import { BarGauge, BigValue, GlobalStyles, PanelChrome, PanelContextProvider, PortalContainer, TimeSeries, VizRepeater } from "@grafana/ui";
import { TableNG } from "@grafana/ui/unstable";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { lastValueFrom } from "rxjs";

const { dashboard, data, values, from, to, width, dark } = window.given;
const theme = createTheme({ colors: { mode: dark ? "dark" : "light" } });
const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
const GAP = 8;
const CELL = 30;
const NARROW = 769; // below it Grafana stacks panels

window.emptyPanels = [];
window.grafanaBootData = { settings: {}, user: {} };

standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map((one) => [one.id, one])).values()].map((one) => ({
    id: one.id, name: one.name, description: one.description, transformation: async () => one, editor: () => null,
  })),
);

const TIMESERIES = {
  drawStyle: "line", lineInterpolation: "linear", lineWidth: 1, fillOpacity: 0, gradientMode: "none", showPoints: "auto",
  pointSize: 5, spanNulls: false, axisPlacement: "auto", stacking: { mode: "none", group: "A" }, barAlignment: 0,
  scaleDistribution: { type: "linear" }, hideFrom: { tooltip: false, viz: false, legend: false }, axisColorMode: "text",
  thresholdsStyle: { mode: "off" },
};

const STANDARD = ["unit", "decimals", "min", "max", "displayName", "noValue", "thresholds", "mappings", "color", "links",
  "actions", "filterable"];
const CUSTOM = [...Object.keys(TIMESERIES), "cellOptions", "width", "minWidth", "align", "hidden", "wrapText", "inspect", "filterable",
  "lineStyle", "fillBelowTo", "axisSoftMin", "axisSoftMax", "axisLabel"];
const registry = new FieldConfigOptionsRegistry(() => [
  ...STANDARD.map((id) => property(id, id, false)),
  ...CUSTOM.map((id) => property(`custom.${id}`, id, true)),
]);

function property(id, path, isCustom) {
  return { id, path, isCustom, name: id, process: (value) => value, shouldApply: () => true, editor: () => null, override: () => null };
}


function interpolate(text, scoped) {
  return String(text).replace(/\$\{(\w+)(?::\w+)?\}/g, (whole, name) => scoped?.[name]?.text ?? values[name] ?? whole);
}

function legend(format, labels) {
  if (!format || format === "__auto") return undefined;
  return format.replace(/\{\{\s*([\w.]+)\s*\}\}/g, (_, name) => labels[name] ?? "");
}

/** Data frames as Grafana's Prometheus data source makes them. */
function frames(panel) {
  return (data[panel.id] ?? []).flatMap(({ refId, legend: format, format: shape, series, step }) => {
    if (shape === "table") {
      const names = [...new Set(series.flatMap((one) => Object.keys(one.labels)))].sort();
      return series.length === 0 ? [] : [toDataFrame({
        refId,
        fields: [
          { name: "Time", type: FieldType.time, values: series.map((one) => one.points[0][0]) },
          ...names.map((name) => ({ name, type: FieldType.string, values: series.map((one) => one.labels[name] ?? "") })),
          { name: panel.targets.length > 1 ? `Value #${refId}` : "Value", type: FieldType.number, values: series.map((one) => one.points[0][1]) },
        ],
      })];
    }
    return series.map((one) => {
      const { __name__: metric, ...labels } = one.labels;
      const name = legend(format, one.labels);
      const points = gaps(one.points, step);
      return toDataFrame({
        refId,
        meta: { type: "timeseries-multi" },
        fields: [
          { name: "Time", type: FieldType.time, values: points.map(([at]) => at), config: { interval: step } },
          { name: "Value", type: FieldType.number, values: points.map(([, value]) => value), labels,
            config: name === undefined ? {} : { displayNameFromDS: name } },
        ],
      });
    });
  });
}

function gaps(points, step) {
  const filled = [];
  points.forEach(([at, value], index) => {
    if (index && at - points[index - 1][0] > step * 1.5) filled.push([points[index - 1][0] + step, null]);
    filled.push([at, value]);
  });
  return filled;
}

async function prepared(panel) {
  const raw = frames(panel);
  const steps = panel.transformations ?? [];
  const moved = steps.length ? await lastValueFrom(transformDataFrame(steps, raw, { interpolate })) : raw;
  const { defaults, overrides } = structuredClone(panel.fieldConfig ?? { defaults: {}, overrides: [] });
  for (const step of [defaults.thresholds, ...overrides.flatMap((one) => one.properties.filter((p) => p.id === "thresholds").map((p) => p.value))]) {
    if (step?.steps?.length) step.steps[0].value = -Infinity;
  }
  if (panel.type === "timeseries") {
    defaults.custom = { ...TIMESERIES, ...defaults.custom };
    defaults.color ??= { mode: "palette-classic" };
  } else {
    defaults.color ??= { mode: "thresholds" };
  }
  const done = applyFieldOverrides({
    data: moved, fieldConfig: { defaults, overrides }, fieldConfigRegistry: registry, replaceVariables: interpolate, theme, timeZone: "utc",
  });
  done.forEach((frame) => frame.fields.forEach((field) => getFieldDisplayName(field, frame, done)));
  return { frames: done, fieldConfig: { defaults, overrides } };
}

function displays(panel, { frames: list, fieldConfig }) {
  return getFieldDisplayValues({
    fieldConfig, reduceOptions: panel.options.reduceOptions, data: list, replaceVariables: interpolate, theme, timeZone: "utc",
    sparkline: panel.options.graphMode && panel.options.graphMode !== "none",
  });
}

function Stat({ panel, ready, width, height }) {
  const shown = displays(panel, ready);
  const many = shown.length > 1;
  const alignmentFactors = getDisplayValueAlignmentFactors(shown);
  const { options } = panel;
  return (
    <VizRepeater
      source={shown} width={width} height={height} getValues={() => shown} autoGrid={true} renderCounter={0}
      orientation={options.orientation === "auto" ? VizOrientation.Auto : options.orientation}
      renderValue={({ value, width, height }) => (
        <BigValue
          value={value.display} sparkline={value.sparkline} width={width} height={height} theme={theme} text={options.text}
          colorMode={options.colorMode} graphMode={options.graphMode} justifyMode={options.justifyMode ?? "auto"}
          textMode={options.textMode === "auto" ? (many ? "value_and_name" : "value") : options.textMode}
          alignmentFactors={alignmentFactors} count={shown.length}
        />
      )}
    />
  );
}

function Bars({ panel, ready, width, height }) {
  const shown = displays(panel, ready);
  const { options } = panel;
  const alignmentFactors = getDisplayValueAlignmentFactors(shown);
  const orientation = options.orientation === "auto" ? (width > height ? "vertical" : "horizontal") : options.orientation;
  return (
    <div style={{ width, height, overflowX: "hidden", overflowY: "auto" }}>
      <VizRepeater
        source={shown} width={width} height={height} getValues={() => shown} renderCounter={0} orientation={orientation}
        minVizWidth={options.minVizWidth ?? 8} minVizHeight={options.minVizHeight ?? 16} maxVizHeight={options.maxVizHeight ?? 300}
        itemSpacing={options.displayMode === "lcd" ? 2 : 10}
        renderValue={({ value, width, height }) => (
          <BarGauge
            value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} width={width}
            height={height} theme={theme} orientation={orientation} displayMode={options.displayMode} showUnfilled={options.showUnfilled}
            valueDisplayMode={options.valueMode} namePlacement={options.namePlacement ?? "auto"} text={options.text}
            itemSpacing={options.displayMode === "lcd" ? 2 : 10} lcdCellWidth={12} alignmentFactors={alignmentFactors}
          />
        )}
      />
    </div>
  );
}

function Graph({ panel, ready, width, height }) {
  return <TimeSeries frames={ready.frames} width={width} height={height} timeRange={timeRange} timeZone="utc" legend={panel.options.legend} options={panel.options} />;
}

function Table({ panel, ready, width, height }) {
  const { options, fieldConfig } = panel;
  return (
    <div data-table style={{ display: "contents" }}>
    <PanelContextProvider value={{ eventsScope: "", eventBus: { publish() {}, subscribe() {}, getStream: () => ({ subscribe() {} }) }, canExecuteActions: () => true }}>
    <TableNG
      data={ready.frames[0]} width={width} height={height} noHeader={options.showHeader === false} cellHeight={options.cellHeight}
      sortBy={options.sortBy} fieldConfig={fieldConfig} timeRange={timeRange} enableVirtualization={false} structureRev={1}
      enablePagination={options.enablePagination}
      getActions={(_frame, field) => (field.config.actions ?? []).map((action) => ({ title: action.title, style: action.style, onClick: () => {}, confirmation: () => action.confirmation }))}
    />
    </PanelContextProvider>
    </div>
  );
}

function Text({ panel }) {
  return <div className="markdown-html" style={{ overflow: "auto", height: "100%" }} dangerouslySetInnerHTML={{ __html: renderMarkdown(interpolate(panel.options.content)) }} />;
}

const DRAWN = { stat: Stat, bargauge: Bars, timeseries: Graph, table: Table, text: Text };

function PanelBox({ panel, ready, box }) {
  const Drawn = DRAWN[panel.type];
  const filled = panel.type === "text" || ready.frames.some((frame) => frame.length > 0);
  return (
    <div style={{ position: "absolute", left: box.x, top: box.y, width: box.width, height: box.height }}>
      <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height} hoverHeader={!panel.title}
        displayMode={panel.transparent ? "transparent" : "default"} padding={panel.type === "table" ? "md" : "md"}>
        {(innerWidth, innerHeight) => !filled
          ? <div style={{ display: "grid", placeItems: "center", height: "100%", color: theme.colors.text.secondary }}>{panel.fieldConfig?.defaults?.noValue ?? "No data"}</div>
          : <Drawn panel={panel} ready={ready} width={innerWidth} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
}

function layout() {
  const inner = width - 2 * 16;
  const column = (inner + GAP) / 24;
  const narrow = width < NARROW;
  let top = 0;
  const ordered = [...dashboard.panels].sort((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x);
  return ordered.map((panel) => {
    const { x, y, w, h } = panel.gridPos;
    const height = h * (CELL + GAP) - GAP;
    if (!narrow) return { panel, x: x * column, y: y * (CELL + GAP), width: w * column - GAP, height };
    const box = { panel, x: 0, y: top, width: inner, height };
    top += height + GAP;
    return box;
  });
}

function Header() {
  const shown = dashboard.templating.list.filter((one) => one.hide !== "hideVariable" && one.hide !== 2);
  const chip = { border: `1px solid ${theme.colors.border.medium}`, borderRadius: 2, padding: "4px 8px", background: theme.components.input.background };
  return (
    <div style={{ padding: "12px 16px 4px", color: theme.colors.text.primary }}>
      <div style={{ fontSize: 20, marginBottom: 8 }}>{dashboard.title}</div>
      <div style={{ display: "flex", flexWrap: "wrap", gap: 8, fontSize: 12 }}>
        {shown.map((one) => <span key={one.name} style={chip}><b>{one.label}</b>&ensp;{one.includeAll ? "All" : one.type === "datasource" ? "Prometheus" : String(values[one.name])}</span>)}
      </div>
    </div>
  );
}

function Dashboard() {
  const [ready, setReady] = useState(null);
  useEffect(() => {
    const drawn = dashboard.panels.filter((panel) => panel.type !== "row" && panel.type !== "text");
    Promise.all(drawn.map(async (panel) => [panel.id, await prepared(panel)])).then((all) => {
      const found = Object.fromEntries(all);
      window.emptyPanels = drawn.filter((panel) => !found[panel.id].frames.some((frame) => frame.length > 0)).map((panel) => panel.title);
      setReady(found);
      setTimeout(() => { window.drawn = true; }, 300);
    });
  }, []);
  if (!ready) return null;
  const boxes = layout();
  const bottom = Math.max(...boxes.map((box) => box.y + box.height));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <Header />
      <div style={{ position: "relative", height: bottom + 24, margin: 16 }}>
        {boxes.map((box) => box.panel.type === "row"
          ? <div key={box.panel.id} style={{ position: "absolute", left: box.x, top: box.y, width: box.width, height: box.height, fontSize: 16, paddingTop: 6, color: theme.colors.text.primary }}>⌄&ensp;{box.panel.title}</div>
          : <PanelBox key={box.panel.id} panel={box.panel} ready={ready[box.panel.id] ?? { frames: [] }} box={box} />)}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById("root")).render(<Dashboard />);
