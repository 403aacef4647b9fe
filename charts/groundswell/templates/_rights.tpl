{{/*
What each account that has a token may do, in the release's namespace. A target may be anything that a policy names, so rights on Deployments,
StatefulSets and autoscalers are not tied to names; ConfigMaps and Secrets are.
*/}}
{{- define "groundswell.rights.operator" -}}
- {apiGroups: [groundswell.dev], resources: [viralspikepolicies], verbs: [list, watch]}
- {apiGroups: [groundswell.dev], resources: [viralspikes], verbs: [list, watch, patch, delete]}
- {apiGroups: [groundswell.dev], resources: [viralspikepolicies/status, viralspikes/status], verbs: [patch]}
- {apiGroups: [apps], resources: [deployments, statefulsets], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [deployments/scale, statefulsets/scale], verbs: [patch]}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list, watch, patch]}
- {apiGroups: [keda.sh], resources: [scaledobjects], verbs: [list, patch]}
- {apiGroups: [""], resources: [events], verbs: [list, create]}
- {apiGroups: [""], resources: [pods], verbs: [list]}
{{- with .Values.operator.configMaps }}
- {apiGroups: [""], resources: [configmaps], resourceNames: {{ toJson . }}, verbs: [get, patch]}
{{- end }}
{{- with .Values.operator.webhooks.secrets }}
- {apiGroups: [""], resources: [secrets], resourceNames: {{ toJson . }}, verbs: [get]}
{{- end }}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [groundswell-operator], verbs: [get, watch, update, delete]}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [groundswell-bridge], verbs: [get]}
# Nothing deletes a Lease: some clusters let nobody say whose an object is who could not delete it.
# What is made has no name yet that a rule could be tied to.
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
{{- end -}}

{{- define "groundswell.rights.bridge" -}}
- {apiGroups: [groundswell.dev], resources: [viralspikepolicies], verbs: [list]}
- {apiGroups: [groundswell.dev], resources: [viralspikes], verbs: [get, create]}
- {apiGroups: [groundswell.dev], resources: [viralspikepolicies/status, viralspikes/status], verbs: [patch]}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [groundswell-bridge], verbs: [patch, delete]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
- {apiGroups: [apps], resources: [deployments], resourceNames: [{{ include "groundswell.name" (list . "bridge") }}], verbs: [get]}
{{- end -}}

{{- define "groundswell.rights.release" -}}
- {apiGroups: [groundswell.dev], resources: [viralspikes], verbs: [list, patch, delete]}
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [groundswell-operator], verbs: [get]}
- {apiGroups: [apps], resources: [deployments], resourceNames: [{{ include "groundswell.name" (list . "bridge") }}], verbs: [get]}
- {apiGroups: [apps], resources: [deployments/scale], resourceNames: [{{ include "groundswell.name" (list . "bridge") }}], verbs: [patch]}
- {apiGroups: [""], resources: [pods], verbs: [list]}
{{- end -}}

{{/* An account with its rights: (root, part, annotations as YAML or empty). */}}
{{- define "groundswell.account" -}}
{{- $root := index . 0 }}{{ $part := index . 1 -}}
{{- $metadata := include "groundswell.metadata" (list $root $part) -}}
{{- with index . 2 }}{{ $metadata = printf "%s\nannotations:\n%s" $metadata (indent 2 .) }}{{ end -}}
{{- $name := include "groundswell.name" (list $root $part) -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- $metadata | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- $metadata | nindent 2 }}
rules:
  {{- include (printf "groundswell.rights.%s" $part) $root | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- $metadata | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects: [{kind: ServiceAccount, name: {{ $name }}, namespace: {{ $root.Release.Namespace }}}]
{{- end -}}
