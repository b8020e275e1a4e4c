# Certificates, keys and kubeconfigs, new for every start. Sourced by scripts/cluster.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with scripts/cluster

readonly CERTIFICATE_DAYS=365

create_pki() {
    mkdir -p "$PKI"
    chmod 700 "$PKI"
    # An empty configuration: only the extensions named here.
    printf '[req]\ndistinguished_name=dn\n[dn]\n' >"$PKI/openssl.cnf"
    certificate ca /CN=executor-test-ca \
        basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign,cRLSign,digitalSignature

    local server=extendedKeyUsage=serverAuth client=extendedKeyUsage=clientAuth
    # 10.96.0.1 is the `kubernetes` service; 127.0.0.1 a second way to the same server, inside the network namespace.
    local names="DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    certificate apiserver /CN=kube-apiserver "$server" \
        "subjectAltName=$names,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:10.96.0.1"
    certificate kubelet-server "/CN=$NODE_NAME" "$server" "subjectAltName=DNS:$NODE_NAME,IP:$NODE_IP"
    certificate apiserver-to-kubelet /CN=kube-apiserver "$client"
    certificate admin /O=system:masters/CN=admin "$client"
    certificate kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" "$client"
    certificate controller-manager /CN=system:kube-controller-manager "$client"
    certificate scheduler /CN=system:kube-scheduler "$client"

    local user
    for user in admin kubelet controller-manager scheduler; do
        write_kubeconfig "$user"
    done
    openssl_quietly ecparam -genkey -name prime256v1 -noout -out "$PKI/service-accounts.key"
    openssl_quietly ec -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub"
}

# certificate NAME SUBJECT EXTENSION...: signed by the CA, which signs itself.
certificate() {
    local name=$1 subject=$2 extension
    local arguments=(-x509 -config "$PKI/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes
        -days "$CERTIFICATE_DAYS" -subj "$subject" -keyout "$PKI/$name.key" -out "$PKI/$name.crt")
    shift 2
    if [[ $name != ca ]]; then
        arguments+=(-CA "$PKI/ca.crt" -CAkey "$PKI/ca.key"
            -addext "basicConstraints=critical,CA:FALSE" -addext "keyUsage=critical,digitalSignature")
    fi
    for extension in "$@"; do
        arguments+=(-addext "$extension")
    done
    openssl_quietly req "${arguments[@]}"
}

openssl_quietly() {
    local output
    output=$(openssl "$@" 2>&1) || fail "openssl $1 failed: $output"
}

# Everything inline, so that the file can be used from anywhere.
write_kubeconfig() {
    local user=$1
    cat >"$PKI/$user.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: executor-test
  cluster:
    server: https://$NODE_IP:$API_PORT
    certificate-authority-data: $(base64 -w 0 "$PKI/ca.crt")
users:
- name: $user
  user:
    client-certificate-data: $(base64 -w 0 "$PKI/$user.crt")
    client-key-data: $(base64 -w 0 "$PKI/$user.key")
contexts:
- name: executor-test
  context: { cluster: executor-test, user: $user }
current-context: executor-test
YAML
}
