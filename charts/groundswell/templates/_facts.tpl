{{/*
What topology.yaml says of the chosen placement, as JSON: process → {modules, uses, calls, callers, keeps, processesMax, door}. `calls` and
`callers` are processes. The file is a link to the one that the laptop's supervisor reads, because Helm reads nothing outside of a chart;
`helm package` follows it.
*/}}
{{- define "groundswell.processes" -}}
{{- $file := .Files.Get "topology.yaml" | fromYaml -}}
{{- $placement := index $file.topologies .Values.topology -}}
{{- $home := dict -}}
{{- range $process, $modules := $placement }}{{ range $modules }}{{ $_ := set $home . $process }}{{ end }}{{ end -}}
{{- $found := dict -}}
{{- range $process, $modules := $placement -}}
  {{- $uses := list }}{{ $calls := list }}{{ $keeps := "" }}{{ $max := 0 -}}
  {{- range $modules -}}
    {{- $module := index $file.modules . -}}
    {{- $uses = concat $uses $module.uses -}}
    {{- range $module.calls }}{{ $calls = append $calls (index $home .) }}{{ end -}}
    {{- if or (eq $keeps "") (eq ($module.keeps | default "") "journal") }}{{ $keeps = $module.keeps | default $keeps }}{{ end -}}
    {{- with $module.processes_max }}{{ $max = ternary (int .) (min $max (int .)) (eq (int $max) 0) }}{{ end -}}
  {{- end -}}
  {{- $_ := set $found $process (dict "modules" $modules "uses" ($uses | uniq | sortAlpha) "calls" ($calls | uniq | sortAlpha)
    "keeps" $keeps "processesMax" $max "door" (has $file.door $modules) "callers" list) -}}
{{- end -}}
{{- range $caller, $facts := $found -}}
  {{- range $facts.calls }}{{ $callee := index $found . }}{{ $_ := set $callee "callers" (append $callee.callers $caller) }}{{ end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}

{{/* Where each module's process listens: `links=groundswell-links.ns.svc.cluster.local:4000,…`, in the order of their names. */}}
{{- define "groundswell.endpoints" -}}
{{- $pairs := list -}}
{{- range $process, $facts := include "groundswell.processes" . | fromJson -}}
  {{- range $facts.modules -}}
    {{- $pairs = append $pairs (printf "%s=%s:%d" . (include "groundswell.host" (list $ $process)) 4000) -}}
  {{- end -}}
{{- end -}}
{{- $pairs | sortAlpha | join "," -}}
{{- end -}}

{{/* The engines by JSON: name → {port, chart: whether it runs in the chart}. */}}
{{- define "groundswell.engines" -}}
{{- $ports := dict "kafka" 9092 "valkey" 6379 "postgres" 5432 "clickhouse" 8123 -}}
{{- $found := dict -}}
{{- range $name, $engine := .Values.engines -}}
  {{- $port := index $ports $name -}}
  {{- $_ := set $found $name (dict "port" (int ($engine.external.port | default $port)) "chart" (empty $engine.external)) -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}

{{/* Where the log is. */}}
{{- define "groundswell.kafka" -}}
{{ .Values.engines.kafka.external.address | default (printf "%s:9092" (include "groundswell.host" (list . "kafka"))) }}
{{- end -}}
