{{- /* Values that render, and could not work in a cluster. Each text says what to change. */ -}}
{{- define "portcullis.validate" -}}
{{- include "portcullis.validateConfiguration" . -}}
{{- include "portcullis.validateTemplates" . -}}
{{- include "portcullis.validateScaling" . -}}
{{- $facts := fromJson (include "portcullis.facts" .) -}}
{{- if not (int $facts.metricsPort) -}}
{{- if .Values.prometheusRule.enabled -}}{{- fail (printf "prometheusRule.enabled %s" $facts.metricsWhy) -}}{{- end -}}
{{- if .Values.serviceMonitor.enabled -}}{{- fail (printf "serviceMonitor.enabled %s" $facts.metricsWhy) -}}{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.metricsFrom -}}{{- fail (printf "networkPolicy.metricsFrom %s" $facts.metricsWhy) -}}{{- end -}}
{{- else if eq (int $facts.metricsPort) (int .Values.port) -}}
{{- fail (printf "metrics and clients cannot use the same port %v" .Values.port) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs at least one entry in ingress.hosts" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: the Gateway that the route belongs to" -}}
{{- end -}}
{{- end -}}

{{- /* The address of the configuration against the probes and the service. */ -}}
{{- define "portcullis.validateConfiguration" -}}
{{- $read := fromJson (include "portcullis.file" .) -}}
{{- $file := $read.file -}}
{{- $port := int .Values.port -}}
{{- $said := "" -}}
{{- $is := 0 -}}
{{- range .Values.env -}}
{{- if has (toString .name) (list "KRAKEND_PORT" "PORTCULLIS_PORT") -}}
{{- $said = printf "%s in env is" .name -}}
{{- $is = ternary (int .value) $port (regexMatch "^[0-9]+$" (toString .value)) -}}
{{- end -}}
{{- end -}}
{{- if not (or $said (not $read.readable)) -}}
{{- $given := get $file "port" -}}
{{- if and (kindIs "string" $given) .Values.flexible.enabled -}}
{{- /* A part of a template. */ -}}
{{- else if eq (include "portcullis.source" .) "values" -}}
{{- $said = "config.port is" -}}
{{- $is = int (default $port $given) -}}
{{- else -}}
{{- $said = "the file in configText listens on port" -}}
{{- $is = int (default 8080 $given) -}}
{{- end -}}
{{- end -}}
{{- if and $said (ne $is $port) -}}
{{- fail (printf "%s %d, but the value port is %d: the service and the probes use that" $said $is $port) -}}
{{- end -}}
{{- $pod := .Values.podSecurityContext -}}
{{- $mayBind := or (not (int (default 0 $pod.runAsUser))) (has "NET_BIND_SERVICE" (default list (get (default dict .Values.securityContext.capabilities) "add"))) -}}
{{- range (default list $pod.sysctls) -}}
{{- if eq .name "net.ipv4.ip_unprivileged_port_start" -}}{{- $mayBind = true -}}{{- end -}}
{{- end -}}
{{- if and (lt $port 1024) (not $mayBind) -}}
{{- fail (printf "port %d is below 1024, and the gateway does not run as root: leave port at 8080, since service.port is what clients use, or add { name: net.ipv4.ip_unprivileged_port_start, value: \"0\" } to podSecurityContext.sysctls" $port) -}}
{{- end -}}
{{- if $read.readable -}}
{{- $ip := toString (default "" (get $file "listen_ip")) -}}
{{- if or (hasPrefix "127." $ip) (has $ip (list "::1" "localhost")) -}}
{{- fail (printf "\"listen_ip\" of the configuration is %s: nothing outside of the pod could reach the gateway" $ip) -}}
{{- end -}}
{{- $tls := get $file "tls" -}}
{{- $isTls := and $tls (not (get (default dict $tls) "disabled")) -}}
{{- if and $isTls (get $tls "enable_mtls") -}}
{{- fail "the configuration has \"enable_mtls\": probes have no client certificate, so pods would never be ready. End TLS in front of the gateway" -}}
{{- end -}}
{{- if and $isTls (ne .Values.scheme "HTTPS") -}}
{{- fail "the configuration has \"tls\": set scheme to HTTPS, or the probes fail" -}}
{{- else if and (not $isTls) (eq .Values.scheme "HTTPS") -}}
{{- fail "scheme is HTTPS, but the configuration has no \"tls\": the probes would fail" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.validateTemplates" -}}
{{- range $part := list "settings" "partials" "templates" -}}
{{- $of := get $.Values.flexible $part -}}
{{- $given := list -}}
{{- range $form := list "files" "configMap" "secret" -}}
{{- if get $of $form -}}{{- $given = append $given $form -}}{{- end -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
{{- fail (printf "flexible.%s has %s: the gateway reads one folder. Set only one of them" $part (join " and " $given)) -}}
{{- end -}}
{{- if and $given (not $.Values.flexible.enabled) -}}
{{- fail (printf "flexible.%s has no effect without flexible.enabled" $part) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.validateScaling" -}}
{{- $pods := int .Values.replicaCount -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- $pods = int .minReplicas -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %v, more than maxReplicas, which is %v" .minReplicas .maxReplicas) -}}
{{- end -}}
{{- if not (dig "requests" "cpu" "" $.Values.resources) -}}
{{- fail "autoscaling.enabled needs resources.requests.cpu: the target is a percentage of it" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.podDisruptionBudget -}}
{{- if .enabled -}}
{{- $most := toString .maxUnavailable -}}
{{- $least := "" -}}
{{- if hasKey . "minAvailable" -}}{{- $least = toString .minAvailable -}}{{- end -}}
{{- $none := "no pod may ever be evicted, so nodes cannot be drained" -}}
{{- if $least -}}
{{- if or (eq $least "100%") (and (regexMatch "^[0-9]+$" $least) (gt $pods 0) (ge (int $least) $pods)) -}}
{{- fail (printf "podDisruptionBudget.minAvailable is %s of %d pods: %s" $least $pods $none) -}}
{{- end -}}
{{- if and (hasKey . "maxUnavailable") (not (has $most (list "1" "<nil>"))) -}}
{{- fail "set only one of podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable" -}}
{{- end -}}
{{- else if has $most (list "0" "0%") -}}
{{- fail (printf "podDisruptionBudget.maxUnavailable is %s: %s" $most $none) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
