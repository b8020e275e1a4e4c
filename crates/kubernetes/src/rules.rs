//! What the operator says of every pod, whatever it runs: its rights, its disk, and where it may run. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Toleration,
};

/// The user and group of restricted scripts unless the operator names others: what images without root use by custom.
const USER: i64 = 65_532;

/// How far a pod goes by the Pod Security Standards.
/// Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodProfile {
    /// `restricted`, and beyond it a root file system that nobody writes: a user other than root, no capabilities.
    #[default]
    Restricted,
    /// `baseline`: the image's own user, root too, the runtime's usual capabilities, and a root file system of its own.
    Baseline,
}

/// What the operator says of every pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRules {
    /// Its rights.
    pub profile: PodProfile,
    /// The user of a restricted script, by number: not 0.
    pub user: i64,
    /// Its group, by number: not 0.
    pub group: i64,
    /// The disk of submissions that ask for none, as in `4Gi`: a limit, of which nothing is reserved. None is no limit.
    pub disk: Option<String>,
    /// The RuntimeClass; none for the cluster's own.
    pub runtime_class: Option<String>,
    /// The labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// The taints that it puts up with.
    pub tolerations: Vec<Toleration>,
}

impl Default for PodRules {
    fn default() -> Self {
        Self {
            profile: PodProfile::default(),
            user: USER,
            group: USER,
            disk: None,
            runtime_class: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        }
    }
}

impl PodRules {
    /// Whether only the folders given for it can be written to.
    pub(crate) fn is_restricted(&self) -> bool {
        self.profile == PodProfile::Restricted
    }

    /// The pod with where it may run, and with the system calls that the runtime lets it make.
    pub(crate) fn place(&self, pod: PodSpec) -> PodSpec {
        PodSpec {
            runtime_class_name: self.runtime_class.clone(),
            node_selector: (!self.node_selector.is_empty()).then(|| self.node_selector.clone()),
            tolerations: (!self.tolerations.is_empty()).then(|| self.tolerations.clone()),
            security_context: Some(PodSecurityContext {
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            ..pod
        }
    }

    /// The rights of the script's container. On the container, not on the pod: the process that holds the pod together
    /// would have the same user, and the script could end it.
    pub(crate) fn rights(&self) -> SecurityContext {
        let least = SecurityContext {
            allow_privilege_escalation: Some(false),
            ..SecurityContext::default()
        };
        match self.profile {
            PodProfile::Baseline => least,
            PodProfile::Restricted => SecurityContext {
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    add: None,
                }),
                read_only_root_filesystem: Some(true),
                run_as_non_root: Some(true),
                run_as_user: Some(self.user),
                run_as_group: Some(self.group),
                ..least
            },
        }
    }
}
