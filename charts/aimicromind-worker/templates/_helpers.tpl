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

{{- define "worker.env" -}}
{{- $secret := include "worker.secretName" . -}}
- name: AIMICROMIND_AMQP_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .Values.secret.keys.amqpUrl }}
- name: AIMICROMIND_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .Values.secret.keys.apiKey }}
      optional: true
- name: AIMICROMIND_MANAGEMENT_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .Values.secret.keys.managementUrl }}
      optional: true
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "worker.volumeMounts" -}}
{{- if .Values.tls.amqpSecret }}
- name: amqp-tls
  mountPath: /etc/aimicromind/amqp
  readOnly: true
{{- end }}
{{- if .Values.tls.endpointCaSecret }}
- name: endpoint-ca
  mountPath: /etc/aimicromind/endpoint-ca
  readOnly: true
{{- end }}
{{- if .Values.tls.endpointClientSecret }}
- name: endpoint-client
  mountPath: /etc/aimicromind/endpoint-client
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "worker.volumes" -}}
{{- with .Values.tls.amqpSecret }}
- name: amqp-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.tls.endpointCaSecret }}
- name: endpoint-ca
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- with .Values.tls.endpointClientSecret }}
- name: endpoint-client
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: client.pem, path: client.pem}]
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
