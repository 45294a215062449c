// The types that a dashboard's JSON must have: those of Grafana, with the options of each kind of panel that is used.
//
// typed.mjs puts the JSON below this head as literals, so that tsc refuses fields that Grafana doesn't know.
import type { AnnotationQuery, Dashboard, DataSourceRef, Panel, RowPanel, VariableModel } from "@grafana/schema";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as text from "@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON has an enumeration's texts and not its names.
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

// A query as Grafana's Prometheus data source has it; its types are not in @grafana/schema.
type Target = {
  refId: string;
  expr: string;
  legendFormat: string;
  datasource: DataSourceRef;
  editorMode: "code" | "builder";
  range: boolean;
  instant?: boolean;
  format?: "time_series" | "table" | "heatmap";
};

type Defaults = NonNullable<Panel["fieldConfig"]>["defaults"];
type Drawn<Kind extends string, Options, Custom> = Omit<Json<Panel>, "type" | "options" | "targets" | "fieldConfig"> & {
  type: Kind;
  options: Json<Options>;
  targets?: Target[];
  fieldConfig?: { defaults: Omit<Json<Defaults>, "custom"> & { custom?: Json<Custom> }; overrides: { matcher: { id: "byName"; options: string }; properties: { id: "color"; value: { mode: "fixed"; fixedColor: string } }[] }[] };
};

export type AnyPanel =
  | Drawn<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | Drawn<"stat", stat.Options, never>
  | Drawn<"heatmap", heatmap.Options, heatmap.FieldConfig>
  | Drawn<"table", table.Options, table.FieldConfig>
  | Drawn<"text", text.Options, never>
  | (Omit<Json<RowPanel>, "panels"> & { panels: [] });

export type Frame = Omit<Json<Dashboard>, "panels" | "annotations" | "templating"> & {
  templating: { list: Json<VariableModel>[] };
  annotations: { list: (Omit<Json<AnnotationQuery>, "target"> & { target: Pick<Target, "refId" | "expr">; titleFormat: string; textFormat: string })[] };
};
