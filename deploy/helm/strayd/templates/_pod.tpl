{{/* The pod: the same for Deployment and StatefulSet. */}}
{{- define "strayd.pod" -}}
metadata:
  labels:
    {{- include "strayd.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if not .Values.existingConfigMap }}
    checksum/config: {{ include "strayd.toml" . | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "strayd.serviceAccountName" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "strayd.selectorLabels" $ | nindent 10 }}
    {{- end }}
    {{- end }}
  {{- with .Values.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: strayd
      image: {{ include "strayd.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [/usr/bin/strayd]
      args: [run, --config, /etc/strayd/strayd.toml]
      env:
        {{- include "strayd.env" . | nindent 8 }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: admin
          containerPort: {{ .Values.admin.port }}
          protocol: TCP
      startupProbe:
        {{- toYaml .Values.startupProbe | nindent 8 }}
      livenessProbe:
        {{- toYaml .Values.livenessProbe | nindent 8 }}
      readinessProbe:
        {{- toYaml .Values.readinessProbe | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        {{- include "strayd.configMounts" . | nindent 8 }}
        - name: models
          mountPath: /var/lib/strayd
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "strayd.configVolumes" . | nindent 4 }}
    {{- if not (and (eq .Values.kind "StatefulSet") .Values.persistence.enabled) }}
    # Models outlive the container and not the pod: a new one has them from registry.topic, or trains its first one again from
    # the topic's history.
    - name: models
      emptyDir:
        sizeLimit: {{ .Values.modelsSizeLimit }}
    {{- end }}
{{- end }}

{{- define "strayd.env" -}}
# Probes and Prometheus come from outside the container; what changes something needs a token.
- name: STRAYD__ADMIN__LISTEN
  value: 0.0.0.0:{{ .Values.admin.port }}
- name: STRAYD__REGISTRY__PATH
  value: /var/lib/strayd/models
- name: OPENBLAS_NUM_THREADS
  value: "1"
{{- if eq .Values.kind "StatefulSet" }}
# A pod that comes back within kafka.session_timeout has its partitions again without a rebalance.
- name: STRAYD__KAFKA__INSTANCE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- if .Values.secret.existingSecret }}
{{- $keys := dict "password" "STRAYD__KAFKA__SECURITY__PASSWORD_FILE" "ca" "STRAYD__KAFKA__SECURITY__CA_FILE" "certificate" "STRAYD__KAFKA__SECURITY__CERTIFICATE_FILE" "key" "STRAYD__KAFKA__SECURITY__KEY_FILE" "keyPassword" "STRAYD__KAFKA__SECURITY__KEY_PASSWORD_FILE" "oauthClientSecret" "STRAYD__KAFKA__SECURITY__OAUTH_CLIENT_SECRET_FILE" "adminToken" "STRAYD__ADMIN__TOKEN_FILE" }}
{{- range $name, $variable := $keys }}
{{- with index $.Values.secret.keys $name }}
- name: {{ $variable }}
  value: /run/secrets/strayd/{{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "strayd.configMounts" -}}
- name: config
  mountPath: /etc/strayd
  readOnly: true
{{- if .Values.secret.existingSecret }}
- name: secrets
  mountPath: /run/secrets/strayd
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "strayd.configVolumes" -}}
- name: config
  configMap:
    name: {{ include "strayd.configMap" . }}
{{- with .Values.secret.existingSecret }}
- name: secrets
  secret:
    secretName: {{ . }}
    # 0440; an octal number means another one to YAML 1.2.
    defaultMode: 288
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
