{{- define "strayd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "strayd.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "strayd.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "strayd.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "strayd.selectorLabels" -}}
app.kubernetes.io/name: {{ include "strayd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "strayd.labels" -}}
{{ include "strayd.selectorLabels" . }}
app.kubernetes.io/component: detector
app.kubernetes.io/part-of: strayd
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "strayd.meta" -}}
name: {{ include "strayd.fullname" . }}
labels:
  {{- include "strayd.labels" . | nindent 2 }}
{{- end }}

{{- define "strayd.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "strayd.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "strayd.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "strayd.configMap" -}}
{{- default (include "strayd.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{/* A value of the configuration as TOML. Numbers of a values file are floats; whole ones are written as such. */}}
{{- define "strayd.toml.value" -}}
{{- if kindIs "string" . }}
{{- toJson . }}
{{- else if kindIs "float64" . }}
{{- if eq (floor .) . }}{{ printf "%.0f" . }}{{ else }}{{ printf "%v" . }}{{ end }}
{{- else if kindIs "slice" . }}
{{- $items := list }}{{ range . }}{{ $items = append $items (include "strayd.toml.value" .) }}{{ end }}
{{- printf "[%s]" (join ", " $items) }}
{{- else if kindIs "map" . }}
{{- $items := list }}
{{- range $key, $value := . }}{{ $items = append $items (printf "%s = %s" (include "strayd.toml.key" $key) (include "strayd.toml.value" $value)) }}{{ end }}
{{- printf "{ %s }" (join ", " $items) }}
{{- else }}
{{- . }}
{{- end }}
{{- end }}

{{- define "strayd.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{/* A table of the configuration as TOML: its values, then its tables. What is null is left out. */}}
{{- define "strayd.toml.table" -}}
{{- $path := .path }}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "strayd.toml.key" $key }} = {{ include "strayd.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $inner := include "strayd.toml.key" $key }}
{{- if $path }}{{ $inner = printf "%s.%s" $path $inner }}{{ end }}

[{{ $inner }}]
{{- include "strayd.toml.table" (dict "path" $inner "table" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "strayd.toml" -}}
# Rendered from the values under `config`.
{{- include "strayd.toml.table" (dict "path" "" "table" .Values.config) }}
{{- end }}

{{/* The ports of config.kafka.brokers and networkPolicy.brokerPorts, each once, as a list of YAML. */}}
{{- define "strayd.brokerPorts" -}}
{{- $ports := list }}
{{- range splitList "," .Values.config.kafka.brokers }}
{{- $ports = append $ports (regexFind "[0-9]+$" (trim .) | default "9092" | int) }}
{{- end }}
{{- range .Values.networkPolicy.brokerPorts }}{{ $ports = append $ports (int .) }}{{ end }}
{{- $ports | uniq | toYaml }}
{{- end }}
