{{- define "codesandbox.operator" -}}{{ .Release.Name }}-operator{{- end }}
{{- define "codesandbox.mcp" -}}{{ .Release.Name }}-mcp-frontend{{- end }}
{{- define "codesandbox.secret" -}}{{ .Values.mcp.auth.existingSecret | default (printf "%s-token" (include "codesandbox.mcp" .)) }}{{- end }}

{{/* The name of something cluster-scoped, which two releases must not share. */}}
{{- define "codesandbox.clusterwide" -}}{{ .Release.Namespace }}-{{ .Release.Name }}{{- end }}

{{/* How the API server calls the two ServiceAccounts. */}}
{{- define "codesandbox.operatorUser" -}}system:serviceaccount:{{ .Release.Namespace }}:{{ include "codesandbox.operator" . }}{{- end }}
{{- define "codesandbox.mcpUser" -}}system:serviceaccount:{{ .Release.Namespace }}:{{ include "codesandbox.mcp" . }}{{- end }}

{{/* An image: (list $ .Values.agent.image). */}}
{{- define "codesandbox.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{- with $root.Values.global.imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* The labels that select one of our Deployments: (list $ "operator"). */}}
{{- define "codesandbox.selector" -}}
app.kubernetes.io/name: codesandbox
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The labels of everything in the chart. Not managed-by=codesandbox: that says what the operator made. */}}
{{- define "codesandbox.labels" -}}
{{ include "codesandbox.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Where a Deployment's pods go: .Values.operator. */}}
{{- define "codesandbox.scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end }}

{{/* The flags that limit what a caller's sandboxes may use, as JSON. */}}
{{- define "codesandbox.limits" -}}
{{- $flags := list }}
{{- range $what, $most := .Values.mcp.limits }}
{{- if not (has $most (list nil "")) }}
{{- /* As JSON, since Go writes large numbers with an exponent. */}}
{{- $flags = append $flags (printf "--max-%s=%s" $what (toJson $most | trimAll "\"")) }}
{{- end }}
{{- end }}
{{- toJson $flags }}
{{- end }}

{{/* The names of the front end's Service, which clients in the cluster send as Host. */}}
{{- define "codesandbox.hosts" -}}
{{- $name := include "codesandbox.mcp" . }}
{{- $ns := .Release.Namespace }}
{{- list $name (printf "%s.%s" $name $ns) (printf "%s.%s.svc" $name $ns) (printf "%s.%s.svc.cluster.local" $name $ns) | toJson }}
{{- end }}
