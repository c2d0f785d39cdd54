{{- define "smart-imaging-sidecar.name" -}}
{{- default .Release.Name "" | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "smart-imaging-sidecar.selector" -}}
app.kubernetes.io/name: smart-imaging-sidecar
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/*
Of the pod of `helm test`, which may reach the archive and is none of ours: neither the Services nor the PodDisruptionBudget nor
the autoscaler may count it.
*/}}
{{- define "smart-imaging-sidecar.checkSelector" -}}
app.kubernetes.io/name: smart-imaging-sidecar-check
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "smart-imaging-sidecar.labels" -}}
{{ include "smart-imaging-sidecar.selector" . }}
{{ include "smart-imaging-sidecar.about" . }}
{{- end -}}

{{- define "smart-imaging-sidecar.about" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "smart-imaging-sidecar.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "smart-imaging-sidecar.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "smart-imaging-sidecar.name" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/*
The settings, as the ConfigMap has them: with a limit of CPUs and no server.workers of their own, a worker for each CPU. Without
a limit there is one worker: a pod sees all CPUs of its node. A catalog in memory is for one worker.
*/}}
{{- define "smart-imaging-sidecar.config" -}}
{{- if not .Values.config -}}
{{- fail "config is required: the sidecar's settings, as in its configuration file (docs/configuration.md)" -}}
{{- end -}}
{{- include "smart-imaging-sidecar.refuse" . -}}
{{- $config := .Values.config -}}
{{- if and (dig "limits" "cpu" "" .Values.resources) (ne (dig "fhir" "catalog" "store" "" $config) "memory") -}}
{{- $config = merge (deepCopy $config) (dict "server" (dict "workers" "auto")) -}}
{{- end -}}
{{ toYaml $config }}
{{- end -}}

{{/* What the settings allow, and what cannot work in a pod. */}}
{{- define "smart-imaging-sidecar.refuse" -}}
{{- $text := toYaml .Values.config -}}
{{- range $key := list "host" "admin_host" -}}
{{- if has (dig "server" $key "" $.Values.config) (list "127.0.0.1" "localhost" "::1") -}}
{{- fail (printf "config.server.%s is the pod's loopback: neither probes nor the Service would reach it; leave it out" $key) -}}
{{- end -}}
{{- end -}}
{{- $path := include "smart-imaging-sidecar.path" . -}}
{{- $own := "^/(capability|fhir|wado-rs|wado-uri)(/|$)" -}}
{{- if or (not (regexMatch "^/([A-Za-z0-9._~-]+(/|$))*$" $path)) (regexMatch "/[.]{1,2}(/|$)" $path) (regexMatch $own $path) -}}
{{- fail (printf "config.server.public_url has the path %s: letters, digits and . _ ~ - alone, not beginning as ours (/fhir is added to it)" $path) -}}
{{- end -}}
{{- if regexMatch "(?m)^\\s*(-\\s+)?(password|client_secret|token):" $text -}}
{{- fail "config has a password, client_secret or token: it would be readable in the ConfigMap; use password_file, client_secret_file or token_file, and secrets" -}}
{{- end -}}
{{- $mounted := list -}}
{{- range .Values.secrets }}{{- $mounted = append $mounted .name -}}{{- end -}}
{{- range $path := regexFindAll "/run/secrets/[A-Za-z0-9.-]+" $text -1 -}}
{{- if not (has (base $path) $mounted) -}}
{{- fail (printf "config names a file below %s, but secrets has no %s" $path (base $path)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (toString (dig "server" "workers" "" .Values.config)) "auto") (not (dig "limits" "cpu" "" .Values.resources)) -}}
{{- fail "config.server.workers is auto without resources.limits.cpu: it would start a worker for each CPU of the node; set the limit, or a number" -}}
{{- end -}}
{{- $file := dig "fhir" "catalog" "file" "" .Values.config -}}
{{- if and $file (not (regexMatch "^/var/(lib|spool)/smart-imaging-sidecar/" $file)) -}}
{{- fail (printf "config.fhir.catalog.file %s is on a read-only file system: leave it out, or put it below /var/lib/smart-imaging-sidecar" $file) -}}
{{- end -}}
{{- $folder := dig "audit" "spool" "folder" "" .Values.config -}}
{{- if and $folder (not (and .Values.spool.enabled (hasPrefix "/var/spool/smart-imaging-sidecar/" $folder))) -}}
{{- fail (printf "config.audit.spool.folder %s is on a read-only file system: set spool.enabled, and a folder below /var/spool/smart-imaging-sidecar" $folder) -}}
{{- end -}}
{{- end -}}

{{/* The path of the public URL, which routes pass on: the sidecar answers below it (docs/kubernetes.md, "Below a path"). */}}
{{- define "smart-imaging-sidecar.path" -}}
{{- $url := urlParse (dig "server" "public_url" "http://localhost:8080" .Values.config) -}}
{{- default "/" (trimAll "/" $url.path | printf "/%s" | trimSuffix "/") -}}
{{- end -}}

{{- define "smart-imaging-sidecar.port" -}}
{{- dig "server" "port" 8080 .Values.config -}}
{{- end -}}

{{- define "smart-imaging-sidecar.adminPort" -}}
{{- dig "server" "admin_port" 9090 .Values.config -}}
{{- end -}}

{{/* The preStop pause, transfers that drain, 10 s for workers to end (the supervisor kills them then), and 5 s more for itself. */}}
{{- define "smart-imaging-sidecar.graceSeconds" -}}
{{- add (int (dig "server" "drain_seconds" 30 .Values.config)) (int .Values.preStopSeconds) 15 -}}
{{- end -}}

{{/* What any container of this chart may do: nothing that it does not need. */}}
{{- define "smart-imaging-sidecar.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/*
The sidecar's container, for a pod of another chart, too (README.md, "In a pod of yours"):
  containers: {{ include "smart-imaging-sidecar.container" $ctx | nindent 8 }}
*/}}
{{- define "smart-imaging-sidecar.container" -}}
- name: sidecar
  image: {{ include "smart-imaging-sidecar.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [serve, --config, /etc/smart-imaging-sidecar/config.yaml]
  {{- with .Values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - {name: http, containerPort: {{ include "smart-imaging-sidecar.port" . }}}
    - {name: admin, containerPort: {{ include "smart-imaging-sidecar.adminPort" . }}}
  startupProbe:
    httpGet: {path: /healthz, port: admin}
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    httpGet: {path: /healthz, port: admin}
    periodSeconds: 10
    timeoutSeconds: 5
  readinessProbe:
    httpGet: {path: /readyz, port: admin}
    periodSeconds: 5
    timeoutSeconds: 10
  {{- if .Values.preStopSeconds }}
  lifecycle:
    preStop:
      exec: {command: [python, -c, {{ printf "import time; time.sleep(%d)" (int .Values.preStopSeconds) | quote }}]}
  {{- end }}
  securityContext:
    {{- include "smart-imaging-sidecar.securityContext" . | nindent 4 }}
  {{- with .Values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    {{- include "smart-imaging-sidecar.volumeMounts" . | nindent 4 }}
{{- end -}}

{{- define "smart-imaging-sidecar.volumeMounts" -}}
- {name: sidecar-config, mountPath: /etc/smart-imaging-sidecar, readOnly: true}
- {name: sidecar-tmp, mountPath: /tmp}
- {name: sidecar-state, mountPath: /var/lib/smart-imaging-sidecar}
{{- if .Values.spool.enabled }}
- {name: sidecar-spool, mountPath: /var/spool/smart-imaging-sidecar}
{{- end }}
{{- range .Values.secrets }}
- {name: secret-{{ .name }}, mountPath: /run/secrets/{{ .name }}, readOnly: true}
{{- end }}
{{- range .Values.configMaps }}
- {name: config-{{ .name }}, mountPath: /run/config/{{ .name }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "smart-imaging-sidecar.volumes" -}}
- name: sidecar-config
  configMap: {name: {{ include "smart-imaging-sidecar.name" . }}-config}
- name: sidecar-tmp
  emptyDir: {sizeLimit: 64Mi}
- name: sidecar-state
  emptyDir: {}
{{- if .Values.spool.enabled }}
- name: sidecar-spool
  {{- if .Values.spool.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.spool.existingClaim }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.spool.size }}}
  {{- end }}
{{- end }}
{{- range .Values.secrets }}
- name: secret-{{ .name }}
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
    {{- with .items }}
    items:
      {{- range . }}
      - {key: {{ . | quote }}, path: {{ . | quote }}}
      {{- end }}
    {{- end }}
{{- end }}
{{- range .Values.configMaps }}
- name: config-{{ .name }}
  configMap: {name: {{ .name }}}
{{- end }}
{{- end -}}
