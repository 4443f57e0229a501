{{- define "portcullis.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "portcullis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "portcullis.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.selector" -}}
app.kubernetes.io/name: {{ include "portcullis.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "portcullis.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "portcullis.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "portcullis.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* "values" while the file comes from `config`; "text", "configMap" or "secret" while the file is used unchanged. */ -}}
{{- define "portcullis.source" -}}
{{- $forms := list -}}
{{- if .Values.configText }}{{ $forms = append $forms "text" }}{{ end -}}
{{- if .Values.existingConfigMap }}{{ $forms = append $forms "configMap" }}{{ end -}}
{{- if .Values.existingSecret }}{{ $forms = append $forms "secret" }}{{ end -}}
{{- if gt (len $forms) 1 -}}
{{- fail "set only one of configText, existingConfigMap and existingSecret" -}}
{{- end -}}
{{- if $forms }}{{ first $forms }}{{ else }}values{{ end -}}
{{- end -}}

{{- /* The file of `config`, with the port, the metrics listener and the times for a stop where it does not say them. */ -}}
{{- define "portcullis.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $extra := deepCopy (default dict $config.extra_config) -}}
{{- if not (hasKey $config "port") -}}{{- $_ := set $config "port" (int .Values.port) -}}{{- end -}}
{{- if not (hasKey $config "max_shutdown_wait_time") -}}
{{- $_ := set $config "max_shutdown_wait_time" (printf "%ds" (int .Values.shutdown.drainSeconds)) -}}
{{- end -}}
{{- $server := deepCopy (default dict (get $extra "portcullis/server")) -}}
{{- if not (or (hasKey $server "shutdown_delay") .Values.shutdown.preStopSleep) -}}
{{- $_ := set $server "shutdown_delay" (printf "%ds" (int .Values.shutdown.delaySeconds)) -}}
{{- end -}}
{{- if $server }}{{ $_ := set $extra "portcullis/server" $server }}{{ end -}}
{{- if and .Values.metrics.enabled (not (hasKey $extra "portcullis/metrics")) -}}
{{- $_ := set $extra "portcullis/metrics" (dict "listen" (printf "0.0.0.0:%d" (int .Values.metrics.port))) -}}
{{- end -}}
{{- $_ := set $config "extra_config" $extra -}}
{{- toPrettyJson $config -}}
{{- end -}}

{{- /* What the file and its templates are made of: new pods when it changes and nobody watches. */ -}}
{{- define "portcullis.checksum" -}}
{{- printf "%s %s %s" (include "portcullis.config" .) .Values.configText (toJson .Values.flexible) | sha256sum -}}
{{- end -}}

{{- /* A volume of one folder of templates: the chart's own ConfigMap, or one that exists. */ -}}
{{- define "portcullis.flexibleVolume" -}}
{{- $of := get .root.Values.flexible .part -}}
- name: {{ .part }}
  {{- if $of.secret }}
  secret:
    secretName: {{ $of.secret }}
    defaultMode: 0440
  {{- else }}
  configMap:
    name: {{ default (printf "%s-%s" (include "portcullis.fullname" .root) .part) $of.configMap }}
  {{- end }}
{{- end -}}

{{- /* "yes" when this folder of templates has anything in it. */ -}}
{{- define "portcullis.hasPart" -}}
{{- $of := get .root.Values.flexible .part -}}
{{- if and .root.Values.flexible.enabled (or $of.files $of.configMap $of.secret) }}yes{{ end -}}
{{- end -}}
