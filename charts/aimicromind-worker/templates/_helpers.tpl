{{- define "worker.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "worker.fullname" -}}
{{- $name := include "worker.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "worker.instanceLabels" -}}
app.kubernetes.io/name: {{ include "worker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The pods that work. A test pod is of the same instance, and of another component. */}}
{{- define "worker.selectorLabels" -}}
{{ include "worker.instanceLabels" . }}
app.kubernetes.io/component: worker
{{- end -}}

{{- define "worker.commonLabels" -}}
{{ include "worker.instanceLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "worker.labels" -}}
{{ include "worker.commonLabels" . }}
app.kubernetes.io/component: worker
{{- end -}}

{{- define "worker.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest }}
{{- else -}}
{{ printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{- define "worker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "worker.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "worker.secretName" -}}
{{ .Values.secret.existingSecret | default (include "worker.fullname" .) }}
{{- end -}}

{{/* Numbers of a values file are floats, and 2000000000 would become 2e+09. */}}
{{- define "worker.plain" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "worker.gracePeriod" -}}
{{- $drain := ceil .Values.settings.drainSeconds | int -}}
{{- $given := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $given -}}
{{ add $drain 10 }}
{{- else if lt (int $given) (add $drain 5 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d and must be at least %d: settings.drainSeconds and 5, so that workers are not killed while they hand back jobs" (int $given) (add $drain 5 | int)) -}}
{{- else -}}
{{ int $given }}
{{- end -}}
{{- end -}}

{{/* Files for TLS by the names of their volumes: where each is from, and the setting that names it. */}}
{{- define "worker.tlsFiles" -}}
{{- $tls := .Values.tls -}}
{{- range list
    (list "amqp-ca" $tls.amqpCaSecret "ca.crt" "AIMICROMIND_AMQP_CA_FILE")
    (list "amqp-client" $tls.amqpClientSecret $tls.clientKey "AIMICROMIND_AMQP_CLIENT_CERTIFICATE")
    (list "endpoint-ca" $tls.endpointCaSecret "ca.crt" "AIMICROMIND_CA_FILE")
    (list "endpoint-client" $tls.endpointClientSecret $tls.clientKey "AIMICROMIND_CLIENT_CERTIFICATE") }}
{{- if index . 1 }}
{{ index . 0 }}: {secret: {{ index . 1 }}, key: {{ index . 2 }}, setting: {{ index . 3 }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "worker.env" -}}
- name: AIMICROMIND_SECRETS_DIR
  value: /etc/aimicromind/secrets
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "worker.volumeMounts" -}}
- name: secrets
  mountPath: /etc/aimicromind/secrets
  readOnly: true
{{- range $name, $_ := include "worker.tlsFiles" . | fromYaml }}
- name: {{ $name }}
  mountPath: /etc/aimicromind/{{ $name }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "worker.volumes" -}}
{{- $secret := include "worker.secretName" . -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ $secret }}
          items: [{key: {{ .Values.secret.keys.amqpUrl }}, path: aimicromind_amqp_url}]
      - secret:
          name: {{ $secret }}
          items: [{key: {{ .Values.secret.keys.apiKey }}, path: aimicromind_api_key}]
          optional: true
      - secret:
          name: {{ $secret }}
          items: [{key: {{ .Values.secret.keys.managementUrl }}, path: aimicromind_management_url}]
          optional: true
{{- range $name, $file := include "worker.tlsFiles" . | fromYaml }}
- name: {{ $name }}
  secret:
    secretName: {{ $file.secret }}
    defaultMode: 0440
    items: [{key: {{ $file.key }}, path: {{ $file.key }}}]
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the worker's pods and the test pod have in common. */}}
{{- define "worker.podBasics" -}}
serviceAccountName: {{ include "worker.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with include "worker.volumes" . | trim }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "worker.containerBasics" -}}
image: {{ include "worker.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "worker.env" . | nindent 2 }}
envFrom:
  - configMapRef:
      name: {{ include "worker.fullname" . }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- with include "worker.volumeMounts" . | trim }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}
