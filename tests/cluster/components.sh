# The programs of Kubernetes and how each is started. Sourced by scripts/cluster.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with scripts/cluster

readonly ETCD_URL=http://127.0.0.1:2379
readonly SERVICE_RANGE=10.96.0.0/16
# In the order of `status`; all of them must run.
readonly COMPONENTS=(node containerd etcd kube-apiserver kube-controller-manager kube-scheduler kubelet)
readonly PKI_SHOWN=$NODE_HOME/state/pki

# start_in_node NAME ARGUMENTS...: one of the built programs, within the node's namespaces.
start_in_node() {
    local name=$1
    shift
    start "$name" nsenter --target "$(pid_of node)" --net --mount \
        "$NODE_HOME/bin/$(basename "$BIN")/$name" "$@"
}

start_containerd() {
    # It looks for its shim in PATH, where a package of the machine may have put another version.
    local tools
    tools=$NODE_HOME/bin/$(basename "$BIN")
    # No registry can be reached. A proxy that refuses says so at once, a name server only after 10 s.
    start containerd nsenter --target "$(pid_of node)" --net --mount \
        env HTTPS_PROXY=http://127.0.0.1:1 HTTP_PROXY=http://127.0.0.1:1 PATH="$tools:$PATH" \
        "$tools/containerd" --config "$NODE_HOME/state/config/containerd.toml"
}

start_etcd() {
    # Nothing here must outlive a power cut, so nothing waits for the disk.
    start_in_node etcd --name executor --data-dir "$NODE_HOME/state/etcd" --unsafe-no-fsync \
        --listen-client-urls "$ETCD_URL" --advertise-client-urls "$ETCD_URL" \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster executor=http://127.0.0.1:2380 \
        --heartbeat-interval 500 --election-timeout 5000 --log-level warn
}

start_apiserver() {
    start_in_node kube-apiserver --etcd-servers "$ETCD_URL" \
        --advertise-address "$NODE_IP" --secure-port "$API_PORT" --cert-dir /run/kubernetes \
        --tls-cert-file "$PKI_SHOWN/apiserver.crt" --tls-private-key-file "$PKI_SHOWN/apiserver.key" \
        --client-ca-file "$PKI_SHOWN/ca.crt" --authorization-mode Node,RBAC \
        --enable-admission-plugins NodeRestriction --service-cluster-ip-range "$SERVICE_RANGE" \
        --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-key-file "$PKI_SHOWN/service-accounts.pub" \
        --service-account-signing-key-file "$PKI_SHOWN/service-accounts.key" \
        --kubelet-certificate-authority "$PKI_SHOWN/ca.crt" \
        --kubelet-client-certificate "$PKI_SHOWN/apiserver-to-kubelet.crt" \
        --kubelet-client-key "$PKI_SHOWN/apiserver-to-kubelet.key" \
        --kubelet-preferred-address-types InternalIP \
        --allow-privileged --profiling=false
}

start_controller_manager() {
    start_in_node kube-controller-manager --kubeconfig "$PKI_SHOWN/controller-manager.kubeconfig" \
        --service-account-private-key-file "$PKI_SHOWN/service-accounts.key" \
        --root-ca-file "$PKI_SHOWN/ca.crt" --use-service-account-credentials --leader-elect=false \
        --concurrent-job-syncs 20 --kube-api-qps 200 --kube-api-burst 400 \
        --cert-dir /run/kubernetes --flex-volume-plugin-dir "$NODE_HOME/state/volume-plugins" --profiling=false
}

start_scheduler() {
    start_in_node kube-scheduler --config "$NODE_HOME/state/config/scheduler.yaml" --cert-dir /run/kubernetes
}

start_kubelet() {
    start_in_node kubelet --config "$NODE_HOME/state/config/kubelet.yaml" \
        --kubeconfig "$PKI_SHOWN/kubelet.kubeconfig" --root-dir "$NODE_HOME/state/kubelet" \
        --cgroup-root "/$CLUSTER_ID" --hostname-override "$NODE_NAME" --node-ip "$NODE_IP"
}

# As the administrator, from inside the network namespace.
kubectl() {
    KUBECONFIG=$PKI/admin.kubeconfig KUBECACHEDIR=$STATE/kubectl-cache in_network "$BIN/kubectl" "$@"
}

api_server_is_ready() {
    in_network curl -fsS --max-time 2 --cacert "$PKI/ca.crt" "https://$NODE_IP:$API_PORT/readyz"
}

containerd_is_ready() {
    container_tool version
}

node_is_ready() {
    [[ $(kubectl get node "$NODE_NAME" -o "jsonpath={.status.conditions[?(@.type=='Ready')].status}") == True ]]
}

# A pod may be created once its namespace has a default service account; Executor may call once it has a token.
namespace_is_ready() {
    kubectl --namespace "$NAMESPACE" get serviceaccount default && [[ -n $(token) ]]
}

token() {
    kubectl --namespace "$NAMESPACE" get secret executor-token -o "go-template={{ .data.token | base64decode }}"
}

components_run() {
    local name
    for name in "${COMPONENTS[@]}"; do
        pid_of "$name" >/dev/null || return 1
    done
}

cluster_is_healthy() {
    [[ -s $ENV_FILE ]] && components_run && api_server_is_ready >/dev/null 2>&1 && node_is_ready 2>/dev/null
}
