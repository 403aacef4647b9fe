{{/*
What every pod of the chart has, of ours and of engines alike: (root, part, user id). Pod Security "restricted", no variables of services,
no write to the image, and no token of the API server but for those parts that ask it.
*/}}
{{- define "groundswell.pod" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}{{ $user := index . 2 -}}
serviceAccountName: {{ include "groundswell.name" (list $root $part) }}
automountServiceAccountToken: {{ has $part (list "operator" "bridge" "release") }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "groundswell.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* A container of our image: (root, arguments). */}}
{{- define "groundswell.ours" -}}
{{- $root := index . 0 -}}
image: {{ include "groundswell.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args: {{ index . 1 | toJson }}
{{ include "groundswell.container" $root }}
{{- end -}}

{{/* A quantity of Kubernetes as a number of thousandths, to compare it with another. */}}
{{- define "groundswell.thousandths" -}}
{{- $units := dict "m" 1 "" 1000 "k" 1e6 "M" 1e9 "G" 1e12 "T" 1e15 "P" 1e18 "E" 1e21 "Ki" 1024e3 "Mi" 1048576e3 "Gi" 1073741824e3 "Ti" 1099511627776e3 "Pi" 1125899906842624e3 "Ei" 1152921504606846976e3 -}}
{{- $number := . -}}{{- $unit := "" -}}
{{- if kindIs "string" . -}}
{{- $number = regexFind "^[0-9.]+" . | float64 -}}{{- $unit = regexFind "[A-Za-z]*$" . -}}
{{- end -}}
{{- if not (hasKey $units $unit) }}{{ fail (printf "%s is no quantity of Kubernetes: 250m and 1Gi are" .) }}{{ end -}}
{{- mulf $number (index $units $unit) -}}
{{- end -}}

{{/* What a container asks for and is held to: (where the values say it, values with requests and limits). */}}
{{- define "groundswell.resources" -}}
{{- $place := index . 0 }}{{ $values := index . 1 -}}
{{- range $name, $request := $values.requests }}
{{- $limit := index $values.limits $name }}
{{- if gt (include "groundswell.thousandths" $request | float64) (include "groundswell.thousandths" $limit | float64) }}
{{- fail (printf "%s.requests.%s is %v, which is above its limit, %v" $place $name $request $limit) }}
{{- end }}
{{- end -}}
requests: {{ $values.requests | toJson }}
limits: {{ $values.limits | toJson }}
{{- end -}}

{{/* Names of the cluster are complete and are asked for as they are, without the search list first. */}}
{{- define "groundswell.dns" -}}
dnsConfig:
  options: [{name: ndots, value: "2"}]
{{- end -}}

{{/* Equal pods stand on different nodes and zones while there are any: (root, part). */}}
{{- define "groundswell.spread" -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "groundswell.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* What every claim of a volume says, but its size. */}}
{{- define "groundswell.volume" -}}
accessModes: [ReadWriteOnce]
{{- with .Values.storageClass }}
storageClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* A variable out of a Secret: (variable, secret, key). */}}
{{- define "groundswell.secretVariable" -}}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ index . 1 }}, key: {{ index . 2 }}}}
{{- end -}}

{{/*
The variables that name engines behind a Secret: (root, engines). An engine's plain address is in the ConfigMap; PostgreSQL and
ClickHouse have none, since theirs hold passwords.
*/}}
{{- define "groundswell.engineVariables" -}}
{{- $root := index . 0 -}}
{{- $variables := dict "kafka" "KAFKA_BOOTSTRAP_SERVERS" "valkey" "REDIS_URL" "postgres" "POSTGRES_DSN" "clickhouse" "CLICKHOUSE_DSN" -}}
{{- range index . 1 -}}
{{- $engine := index $root.Values.engines . -}}
{{- if $engine.external.secret }}
{{ include "groundswell.secretVariable" (list (index $variables .) $engine.external.secret $engine.external.key) }}
{{- else if and (empty $engine.external) (has . (list "postgres" "clickhouse")) }}
{{ include "groundswell.secretVariable" (list (index $variables .) (include "groundswell.name" (list $root "engines")) (printf "%s-dsn" .)) }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* What tells a Prometheus that looks for annotations where a pod's metrics are: (root, port). */}}
{{- define "groundswell.scraped" -}}
{{- if eq (index . 0).Values.telemetry.monitoring "annotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index . 1 | quote }}
prometheus.io/path: /metrics
{{- end -}}
{{- end -}}
