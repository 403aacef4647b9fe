{{/* The name of a part: (root, part). Its host name is that of its headless service. */}}
{{- define "groundswell.name" -}}
{{- $root := index . 0 -}}
{{- $release := ternary $root.Release.Name (printf "%s-%s" $root.Release.Name $root.Chart.Name) (contains $root.Chart.Name $root.Release.Name) -}}
{{- $part := index . 1 -}}
{{- ternary (trunc 40 $release | trimSuffix "-") (printf "%s-%s" (trunc 40 $release | trimSuffix "-") $part) (eq $part "") -}}
{{- end -}}

{{- define "groundswell.host" -}}
{{- $root := index . 0 -}}
{{ include "groundswell.name" . }}.{{ $root.Release.Namespace }}.svc.{{ $root.Values.clusterDomain }}
{{- end -}}

{{/* What a part's pods are found by: (root, part). Never changes, since selectors of workloads must not. */}}
{{- define "groundswell.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/*
What an object carries: (root, part). Templates of pods carry the selector alone: a version in them would replace every pod, the engines' too,
with each version of the chart.
*/}}
{{- define "groundswell.labels" -}}
{{- $root := index . 0 -}}
{{ include "groundswell.selector" . }}
app.kubernetes.io/part-of: {{ $root.Chart.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Name and labels of an object of a part: (root, part). */}}
{{- define "groundswell.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "groundswell.name" . }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "groundswell.labels" . | nindent 2 }}
{{- end -}}

{{- define "groundswell.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The Secret of the platform's keys, and that of the addresses of engines in the chart. */}}
{{- define "groundswell.keys" -}}
{{ .Values.keys.existingSecret | default (include "groundswell.name" (list . "keys")) }}
{{- end -}}
