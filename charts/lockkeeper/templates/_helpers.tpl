{{- define "lockkeeper.labels" -}}
app.kubernetes.io/name: lockkeeper
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "lockkeeper.selector" -}}
app.kubernetes.io/name: lockkeeper
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lockkeeper.serviceAccount" -}}
{{ .Values.serviceAccount.name | default .Release.Name }}
{{- end }}

{{/* The operator's name as the API server's authentication gives it. */}}
{{- define "lockkeeper.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "lockkeeper.serviceAccount" . }}
{{- end }}

{{- define "lockkeeper.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Labels of a policy and its binding. src/api/policies.rs knows the version: raise both with each change to the rules. */}}
{{- define "lockkeeper.policyLabels" -}}
{{ include "lockkeeper.labels" . }}
lockkeeper.dev/policy-version: "3"
{{- end }}

{{/* The binding of the policy of that name. */}}
{{- define "lockkeeper.binding" -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels: {{- include "lockkeeper.policyLabels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
  {{- with .paramRef }}
  paramRef: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Kubernetes' own controllers that delete and strip on behalf of others; the last one where they share a name. */}}
{{- define "lockkeeper.kubernetes" -}}
['system:serviceaccount:kube-system:namespace-controller', 'system:serviceaccount:kube-system:generic-garbage-collector', 'system:kube-controller-manager']
{{- end }}

{{/*
Variables about a run that is changed. `planSame`: the spec is as it was but for what people add to it; fields that
later versions bring count as well. `approvalsSame` does not look at the order, which a merge may change.
*/}}
{{- define "lockkeeper.promotionVariables" -}}
- name: me
  expression: request.userInfo.username
- name: target
  expression: request.namespace + '/' + object.spec.environment.name
- name: onTarget
  expression: authorizer.group('lockkeeper.dev').resource('environments').namespace(request.namespace).name(object.spec.environment.name)
- name: before
  expression: "oldObject == null ? {} : oldObject.spec"
- name: phase
  expression: object.?status.?phase.orValue('Scheduled')
- name: planSame
  expression: >-
    object.spec.all(k, k in ['approvals', 'cancel', 'intervention', 'modifiedBy'] || (k in variables.before && object.spec[k] == variables.before[k]))
    && variables.before.all(k, k in ['approvals', 'cancel', 'intervention', 'modifiedBy'] || k in object.spec)
- name: approvals
  expression: object.spec.?approvals.orValue([])
- name: approvalsBefore
  expression: variables.before.?approvals.orValue([])
- name: approvalsSame
  expression: >-
    size(variables.approvals) == size(variables.approvalsBefore)
    && variables.approvals.all(a, a in variables.approvalsBefore)
- name: cancelSame
  expression: object.spec.?cancel == variables.before.?cancel
- name: interventionSame
  expression: object.spec.?intervention == variables.before.?intervention
- name: modifiedBySame
  expression: object.spec.?modifiedBy == variables.before.?modifiedBy
# What it brings, and when; and the name under which that was changed.
- name: unmodified
  expression: variables.planSame && variables.modifiedBySame
{{- end }}
