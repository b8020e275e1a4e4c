#!/usr/bin/env bash
# Proves that the running test cluster treats Jobs as Executor's tests rely on it, with Executor's
# own token. Run as: scripts/cluster exec tests/cluster/check.sh
set -euo pipefail

: "${CLUSTER_URL:?run me by scripts/cluster exec}"
readonly PREFIX=check-$$
readonly WAIT_SECONDS=60
readonly JOBS=/apis/batch/v1/namespaces/$CLUSTER_NAMESPACE/jobs
readonly CORE=/api/v1/namespaces/$CLUSTER_NAMESPACE
WORK=$(mktemp -d)
readonly WORK

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# call METHOD PATH [BODY [CONTENT-TYPE]]: prints the status; the answer is in $WORK/answer.
call() {
    local body=()
    if [[ -n ${3:-} ]]; then
        body=(-H "Content-Type: ${4:-application/json}" --data-binary "$3")
    fi
    curl -sS -X "$1" -o "$WORK/answer" -w '%{http_code}' --cacert "$CLUSTER_CA" \
        -H "Authorization: Bearer $CLUSTER_TOKEN" "${body[@]}" "$CLUSTER_URL$2"
}

# expect STATUS METHOD PATH [BODY [CONTENT-TYPE]]
expect() {
    local wanted=$1 status
    shift
    status=$(call "$@")
    [[ $status == "$wanted" ]] || fail "$1 $2 answered $status, not $wanted: $(cat "$WORK/answer")"
}

# job NAME SCRIPT [MORE POD MEMBERS [MORE CONTAINER MEMBERS [MORE JOB MEMBERS]]]: prints a manifest. SCRIPT is JSON text.
job() {
    cat <<JSON
{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "$PREFIX-$1"},
 "spec": {"backoffLimit": 0, ${5:-} "template": {"spec": {"restartPolicy": "Never", "shareProcessNamespace": true,
 "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 2, ${3:-}
 "containers": [{"name": "script", "image": "docker.io/library/busybox:1.37", "command": ["/bin/sh", "-c", "$2"], ${4:-}
 "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "10m", "memory": "32Mi"}}}]}}}}
JSON
}

# Sets POD to the job's only pod's JSON.
get_pod() {
    expect 200 GET "$CORE/pods?labelSelector=job-name=$PREFIX-$1"
    POD=$(jq -c '.items[0] // {}' "$WORK/answer")
}

# ended NAME EXIT-CODE [REASON]: waits for the container's end.
ended() {
    local deadline=$((SECONDS + WAIT_SECONDS)) state=''
    until [[ -n $state ]]; do
        ((SECONDS < deadline)) || fail "$1 did not end in $WAIT_SECONDS s: $POD"
        sleep 0.1
        get_pod "$1"
        state=$(jq -c '.status.containerStatuses[0].state.terminated // empty' <<<"$POD")
    done
    [[ $(jq .exitCode <<<"$state") == "$2" ]] || fail "$1 ended with $state, not $2"
    [[ -z ${3:-} || $(jq -r .reason <<<"$state") == "$3" ]] || fail "$1 ended with $state, not $3"
}

# logged NAME TEXT
logged() {
    get_pod "$1"
    expect 200 GET "$CORE/pods/$(jq -r .metadata.name <<<"$POD")/log"
    [[ $(cat "$WORK/answer") == "$2" ]] || fail "$1 logged '$(cat "$WORK/answer")', not '$2'"
}

# gone NAME: waits until neither job nor pod is there.
gone() {
    local deadline=$((SECONDS + WAIT_SECONDS))
    until [[ $(call GET "$JOBS/$PREFIX-$1") == 404 ]] && get_pod "$1" && [[ $POD == '{}' ]]; do
        ((SECONDS < deadline)) || fail "$1 is still there after $WAIT_SECONDS s: $POD"
        sleep 0.1
    done
}

check() {
    local started
    started=$(date +%s%N)
    "check_$1"
    printf 'ok  %-14s %5d ms\n' "$1" $((($(date +%s%N) - started) / 1000000))
}

check_exit_codes() {
    expect 201 POST "$JOBS" "$(job zero 'echo Hello && sleep 1 && echo Done')"
    expect 201 POST "$JOBS" "$(job fail 'echo About to fail; exit 42')"
    expect 201 POST "$JOBS" "$(job missing 'non_existing_command')"
    ended zero 0 Completed
    ended fail 42 Error
    ended missing 127 Error
    logged zero $'Hello\nDone'
    logged fail 'About to fail'
}

check_signal() {
    # Kubernetes halves `$$` in commands, arguments and env values, so each `$` is doubled.
    # shellcheck disable=SC2016 # for the script
    expect 201 POST "$JOBS" "$(job signal 'kill -KILL $$$$')"
    ended signal 137 Error
}

check_memory() {
    expect 201 POST "$JOBS" "$(job memory "awk 'BEGIN { s = 1; for (;;) { s = s s } }'")"
    # With a shared process namespace the shell outlives its awk and says 137 itself; without a
    # child in between it is the container's own process that is killed.
    expect 201 POST "$JOBS" "$(job memory-exec "exec awk 'BEGIN { s = 1; for (;;) { s = s s } }'")"
    ended memory-exec 137 OOMKilled
    ended memory 137 OOMKilled
}

check_config_map() {
    expect 201 POST "$CORE/configmaps" \
        "{\"metadata\": {\"name\": \"$PREFIX-files\"}, \"data\": {\"script\": \"#!/usr/bin/env sh\necho from a file: \$1\n\"}}"
    expect 201 POST "$JOBS" "$(job config 'exec /opt/script argument' \
        "\"volumes\": [{\"name\": \"files\", \"configMap\": {\"name\": \"$PREFIX-files\", \"defaultMode\": 365}}]," \
        '"volumeMounts": [{"name": "files", "mountPath": "/opt/script", "subPath": "script", "readOnly": true}],')"
    ended config 0
    logged config 'from a file: argument'
}

check_suspend() {
    expect 201 POST "$JOBS" "$(job suspended 'echo awake' '' '' '"suspend": true,')"
    expect 200 GET "$JOBS/$PREFIX-suspended"
    expect 200 PATCH "$JOBS/$PREFIX-suspended" '{"spec": {"suspend": false}}' application/merge-patch+json
    ended suspended 0
    logged suspended awake
}

check_orphans() {
    # PID 1 is the pause process: it must take in what the script leaves behind.
    expect 201 POST "$JOBS" "$(job orphans '(sleep 1 &) ; cat /proc/1/comm; sleep 2; ps | grep -c [Z]ombie; ps | grep [d]efunct; true')"
    ended orphans 0
    logged orphans $'busybox\n0'
}

check_conflict() {
    expect 409 POST "$JOBS" "$(job zero 'exit 0')"
    [[ $(jq -r .reason "$WORK/answer") == AlreadyExists ]] || fail "409 without AlreadyExists: $(cat "$WORK/answer")"
}

check_rights() {
    expect 403 GET "$CORE/secrets"
    expect 403 GET "/api/v1/namespaces/default/pods"
    expect 403 DELETE "$CORE/pods/some"
    expect 403 POST "$CORE/pods/some/exec"
    local status
    status=$(CLUSTER_TOKEN=wrong call GET "$JOBS")
    [[ $status == 401 ]] || fail "a wrong token was answered $status"
}

check_watch() {
    expect 200 GET "$CORE/pods?limit=1"
    local version watcher
    version=$(jq -r .metadata.resourceVersion "$WORK/answer")
    curl -sSN --max-time "$WAIT_SECONDS" --cacert "$CLUSTER_CA" -H "Authorization: Bearer $CLUSTER_TOKEN" \
        "$CLUSTER_URL$CORE/pods?watch=1&allowWatchBookmarks=true&resourceVersion=$version" >"$WORK/watch" &
    watcher=$!
    expect 201 POST "$JOBS" "$(job watched 'exit 7')"
    local deadline=$((SECONDS + WAIT_SECONDS))
    until jq -e 'select(.object.metadata.labels["job-name"] == "'"$PREFIX"'-watched")
        | .object.status.containerStatuses[0].state.terminated.exitCode == 7' "$WORK/watch" 2>/dev/null | grep -qx true; do
        ((SECONDS < deadline)) || fail "the watch did not show the end"
        sleep 0.1
    done
    kill "$watcher"
    expect 200 GET "$CORE/events?limit=5"
}

check_cancel() {
    expect 201 POST "$JOBS" "$(job canceled 'echo started; sleep 600')"
    local deadline=$((SECONDS + WAIT_SECONDS))
    until get_pod canceled && [[ $(jq '.status.containerStatuses[0].state.running != null' <<<"$POD") == true ]]; do
        ((SECONDS < deadline)) || fail "the job to cancel does not run"
        sleep 0.1
    done
    logged canceled started
    local uid
    expect 200 GET "$JOBS/$PREFIX-canceled"
    uid=$(jq -r .metadata.uid "$WORK/answer")
    expect 409 DELETE "$JOBS/$PREFIX-canceled" '{"propagationPolicy": "Background", "preconditions": {"uid": "other"}}'
    expect 200 DELETE "$JOBS/$PREFIX-canceled" "{\"propagationPolicy\": \"Background\", \"preconditions\": {\"uid\": \"$uid\"}}"
    gone canceled
}

check_deadline() {
    expect 201 POST "$JOBS" "$(job deadline 'echo waiting; sleep 600' '"activeDeadlineSeconds": 2,')"
    local deadline=$((SECONDS + WAIT_SECONDS))
    until get_pod deadline && [[ $(jq -r .status.reason <<<"$POD") == DeadlineExceeded ]]; do
        ((SECONDS < deadline)) || fail "no DeadlineExceeded: $POD"
        sleep 0.1
    done
}

clean_up() {
    local names name
    expect 200 GET "$JOBS"
    mapfile -t names < <(jq -r '.items[].metadata.name' "$WORK/answer" | grep "^$PREFIX-")
    for name in "${names[@]}"; do
        expect 200 DELETE "$JOBS/$name" '{"propagationPolicy": "Background"}'
    done
    for name in "${names[@]}"; do
        gone "${name#"$PREFIX-"}"
    done
    "$CLUSTER_KUBECTL" --namespace "$CLUSTER_NAMESPACE" delete configmap "$PREFIX-files" --wait=false >/dev/null
    rm -rf "$WORK"
}

for name in exit_codes signal memory config_map suspend orphans conflict rights watch cancel deadline; do
    check "$name"
done
clean_up
printf 'ok  all, and everything is gone again\n'
