#!/usr/bin/env bash
# A CNI plugin (https://www.cni.dev/docs/spec/) behind `bridge`: it cuts a pod off before it starts, where NetworkPolicies say
# that nothing goes in or out. Of a namespace with any other policy it enforces none, and what is changed later counts for later pods.
set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin

case $CNI_COMMAND in
    VERSION)
        echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}'
        exit
        ;;
    ADD) ;;
    *) exit ;;
esac

refuse() {
    jq -n --arg why "$1" '{cniVersion: "1.0.0", code: 11, msg: $why}'
    exit 1
}

network=$(cat)
setting() { jq -r ".$1" <<<"$network"; }
namespace=$(sed -nE 's/(^|.*;)K8S_POD_NAMESPACE=([^;]*).*/\2/p' <<<"${CNI_ARGS:-}")
pki=$(setting pki)
# Who cannot say what is allowed starts nothing; the kubelet tries again.
policies=$(curl -sS --noproxy '*' --fail --max-time 5 --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" \
    "$(setting server)/apis/networking.k8s.io/v1/namespaces/$namespace/networkpolicies" 2>&1) ||
    refuse "the policies of $namespace cannot be read: $policies"

is_closed=$(jq '.items | length > 0 and all(.[].spec;
    .podSelector == {} and (.policyTypes | sort) == ["Egress", "Ingress"] and (has("ingress") or has("egress") | not))' <<<"$policies")
if [[ $is_closed == true ]]; then
    for tables in iptables ip6tables; do
        for rule in "INPUT ! -i lo" "OUTPUT ! -o lo"; do
            # shellcheck disable=SC2086 # It is several words.
            nsenter --net="$CNI_NETNS" "$tables" -w 5 -A $rule -j DROP >&2 || refuse "$tables does not take $rule"
        done
    done
fi
setting prevResult
