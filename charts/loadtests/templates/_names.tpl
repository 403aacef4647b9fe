{{/* What the pod is found by, also by policies of the platform that name its visitors. */}}
{{- define "loadtests.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: visitors
{{- end -}}

{{/* What an object carries beside its name. */}}
{{- define "loadtests.metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "loadtests.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: groundswell
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A job cannot be changed, so each revision has its own; Helm takes the former one away. */}}
{{- define "loadtests.job" -}}
{{ .Release.Name }}-{{ .Release.Revision }}
{{- end -}}

{{- define "loadtests.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}
