{{- /*
What the configuration says, so that the manifests agree with it. Only `config`, and a `configText` in JSON or YAML, can be
read. The chart does not see a ConfigMap or Secret that exists, TOML, or a text that is a template; the values count then.
*/ -}}

{{- /* {"readable": …, "file": …} */ -}}
{{- define "portcullis.file" -}}
{{- $source := include "portcullis.source" . -}}
{{- $file := dict -}}
{{- $readable := false -}}
{{- if eq $source "values" -}}
{{- $file = .Values.config -}}
{{- $readable = true -}}
{{- else if eq $source "text" -}}
{{- $isToml := hasSuffix ".toml" .Values.configKey -}}
{{- if hasSuffix ".json" .Values.configKey -}}
{{- $file = fromJson .Values.configText -}}
{{- else if not $isToml -}}
{{- $file = fromYaml .Values.configText -}}
{{- end -}}
{{- if or $isToml (hasKey $file "Error") -}}
{{- if not (or $isToml .Values.flexible.enabled) -}}
{{- fail (printf "configText cannot be read as %s (%s): the gateway would not start. Is it a template? Set flexible.enabled" .Values.configKey $file.Error) -}}
{{- end -}}
{{- $file = dict -}}
{{- else -}}
{{- $readable = true -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "readable" $readable "file" $file) -}}
{{- end -}}

{{- /* A duration such as "1m30s" in whole seconds, rounded up; empty when it is none, such as a part of a template. */ -}}
{{- define "portcullis.seconds" -}}
{{- $text := toString . -}}
{{- if eq $text "0" -}}
0
{{- else if regexMatch "^([0-9]*[.]?[0-9]+(ns|us|µs|μs|ms|s|m|h))+$" $text -}}
{{- $units := dict "ns" 0.000000001 "us" 0.000001 "µs" 0.000001 "μs" 0.000001 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- $total := 0.0 -}}
{{- range regexFindAll "[0-9]*[.]?[0-9]+(ns|us|µs|μs|ms|s|m|h)" $text -1 -}}
{{- $unit := regexFind "[^0-9.]+$" . -}}
{{- $total = addf $total (mulf (float64 (trimSuffix $unit .)) (get $units $unit)) -}}
{{- end -}}
{{- int (ceil $total) -}}
{{- end -}}
{{- end -}}

{{- /*
The facts that the manifests need:
  delay, drain   seconds of a stop
  metricsPort    0 when no other pod can read metrics; metricsWhy then says why
  healthPath     of the liveness probe
*/ -}}
{{- define "portcullis.facts" -}}
{{- $read := fromJson (include "portcullis.file" .) -}}
{{- $file := $read.file -}}
{{- $extra := default dict (get $file "extra_config") -}}
{{- $server := default dict (get $extra "portcullis/server") -}}
{{- $router := default dict (default (get $extra "github_com/luraproject/lura/router/gin") (get $extra "router")) -}}
{{- $stop := .Values.shutdown -}}
{{- $isText := and $read.readable (ne (include "portcullis.source" .) "values") -}}

{{- $delay := $stop.delaySeconds -}}
{{- if hasKey $server "shutdown_delay" -}}
{{- $delay = default $delay (include "portcullis.seconds" $server.shutdown_delay) -}}
{{- if not $stop.preStopSleep -}}
{{- include "portcullis.agree" (list "shutdown.delaySeconds" $stop.delaySeconds 5 "shutdown_delay of the configuration" $delay) -}}
{{- end -}}
{{- else if $stop.preStopSleep -}}
{{- $delay = 0 -}}
{{- end -}}

{{- $drain := $stop.drainSeconds -}}
{{- if hasKey $file "max_shutdown_wait_time" -}}
{{- $drain = default $drain (include "portcullis.seconds" $file.max_shutdown_wait_time) -}}
{{- include "portcullis.agree" (list "shutdown.drainSeconds" $stop.drainSeconds 30 "max_shutdown_wait_time of the configuration" $drain) -}}
{{- else if $isText -}}
{{- /* The gateway's own limit. */ -}}
{{- $drain = 30 -}}
{{- include "portcullis.agree" (list "shutdown.drainSeconds" $stop.drainSeconds 30 "max_shutdown_wait_time of the configuration, which it does not set," $drain) -}}
{{- end -}}

{{- $metricsPort := int .Values.metrics.port -}}
{{- $why := "" -}}
{{- if not .Values.metrics.enabled -}}
{{- $metricsPort = 0 -}}
{{- $why = "needs metrics.enabled" -}}
{{- else if hasKey $extra "portcullis/metrics" -}}
{{- $listen := toString (default "127.0.0.1:9090" (get (default dict (get $extra "portcullis/metrics")) "listen")) -}}
{{- if regexMatch "^[^{}]*:[0-9]+$" $listen -}}
{{- $metricsPort = int (regexFind "[0-9]+$" $listen) -}}
{{- include "portcullis.agree" (list "metrics.port" .Values.metrics.port 9090 "the port of \"portcullis/metrics\" in the configuration" $metricsPort) -}}
{{- if regexMatch "^(127[.]|localhost:|\\[::1\\])" $listen -}}
{{- $why = printf "needs metrics that other pods can read, and \"portcullis/metrics\" of the configuration listens on %s: write \"listen\": \"0.0.0.0:%d\"" $listen $metricsPort -}}
{{- $metricsPort = 0 -}}
{{- end -}}
{{- end -}}
{{- else if $isText -}}
{{- $why = printf "needs metrics, and the configuration has none: add \"portcullis/metrics\": { \"listen\": \"0.0.0.0:%d\" } to its extra_config" $metricsPort -}}
{{- $metricsPort = 0 -}}
{{- end -}}

{{- $health := toString (default "/__health" (get $router "health_path")) -}}
{{- if not (hasPrefix "/" $health) -}}{{- $health = printf "/%s" $health -}}{{- end -}}
{{- $probe := .Values.probes.liveness.path -}}
{{- if get $router "disable_health" -}}
{{- $health = required "the configuration has \"disable_health\", so the liveness probe would fail: set probes.liveness.path to another path, or remove the key" $probe -}}
{{- else if and $probe (hasKey $router "health_path") (ne $probe $health) -}}
{{- fail (printf "probes.liveness.path is %s, but \"health_path\" of the configuration is %s: set only one of them" $probe $health) -}}
{{- end -}}
{{- toJson (dict "delay" (int $delay) "drain" (int $drain) "metricsPort" $metricsPort "metricsWhy" $why "healthPath" (default $health $probe)) -}}
{{- end -}}

{{- /* Fails when a value that is not its default says something else than the configuration. */ -}}
{{- define "portcullis.agree" -}}
{{- $value := int (index . 1) -}}
{{- if and (ne $value (int (index . 2))) (ne $value (int (index . 4))) -}}
{{- fail (printf "%s is %d, but %s is %d: set only one of them" (index . 0) $value (index . 3) (int (index . 4))) -}}
{{- end -}}
{{- end -}}

{{- /* What the pods' limit for a stop must be: both times, and 5 s more. */ -}}
{{- define "portcullis.grace" -}}
{{- $facts := fromJson (include "portcullis.facts" .) -}}
{{- add (int $facts.delay) (int $facts.drain) 5 (ternary (int .Values.shutdown.delaySeconds) 0 .Values.shutdown.preStopSleep) -}}
{{- end -}}

{{- /* 0, or the port at which other pods read metrics. */ -}}
{{- define "portcullis.metricsPort" -}}
{{- int (fromJson (include "portcullis.facts" .)).metricsPort -}}
{{- end -}}

{{- define "portcullis.healthPath" -}}
{{- (fromJson (include "portcullis.facts" .)).healthPath -}}
{{- end -}}
